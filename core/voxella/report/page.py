"""The page of a run: sections put together, one file that loads nothing.

Every text is escaped by the template engine. The page's own policy forbids to load anything and to
run any script but the page's own, known by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from voxella.metrics.declared.lookup import number_of
from voxella.report.classifiers import classifiers_section
from voxella.report.curves import curves_section
from voxella.report.data_card import data_section
from voxella.report.measured import evaluation_of, measured_section
from voxella.report.memorised import memorised_section
from voxella.report.numbers import shown
from voxella.report.quality import quality_section
from voxella.report.reproduce import reproduce_section
from voxella.report.run_folder import RunFolder
from voxella.report.same_noise import same_noise_section
from voxella.report.section import Section
from voxella.report.sweep import sweep_section
from voxella.report.viewer import viewer_section
from voxella.report.whole_volumes import VOLUMES, viewer_scripts

__all__ = ["PICTURES", "Chapter", "page_html", "run_chapter", "run_page"]

# Bytes of slices in a page: with all else it stays below 15 MB, which most mail servers take.
PICTURES = 10_000_000


@dataclass(frozen=True)
class Chapter:
    """All sections of one run.

    Attributes:
        id: Prefix of its anchors, where a page has several runs; "" else.
        title: The recipe's name.
        description: The recipe's.
        facts: Name and value of the few numbers to begin with.
        sections: In order.
    """

    id: str
    title: str
    description: str
    facts: list[tuple[str, str]]
    sections: list[Section]

    def anchor(self, section: Section) -> str:
        """Return a section's anchor."""
        return f"{self.id}-{section.id}" if self.id else section.id


def run_chapter(
    run: RunFolder,
    *,
    cases: int,
    budget: int,
    with_reports: bool,
    id: str = "",
    volumes: int = 0,
) -> Chapter:
    """Return the sections of a run; what is absent says which command makes it.

    Args:
        run: The run.
        cases: Pairs of volumes at most.
        budget: Bytes of their pictures.
        with_reports: Show the prompts' text.
        id: Of the chapter.
        volumes: Bytes of whole volumes; 0: none.

    Raises:
        UserError: A file of the run cannot be read.
    """
    classifiers = classifiers_section(run)
    if run.kept.parent != run.folders.run and classifiers is not None:
        sections = [classifiers]  # of a run that only classifies, nothing else is missing
    else:
        sweep = sweep_section(run)
        pair = same_noise_section(run)
        sections = [
            *([pair] if pair is not None else []),
            viewer_section(
                run, cases=cases, budget=budget, with_reports=with_reports, volumes=volumes
            ),
            *([sweep] if sweep is not None else []),
            measured_section(run),
            memorised_section(run),
            *([classifiers] if classifiers is not None else []),
            curves_section(run),
            quality_section(run),
        ]
    sections += [data_section(run), reproduce_section(run)]
    return Chapter(id, run.recipe.name, run.recipe.description, _facts(run), sections)


def run_page(
    run: RunFolder, *, cases: int = 8, with_reports: bool = False, viewer: bool = False
) -> str:
    """Return the page of one run; with ``viewer``, whole volumes and their viewer are in it.

    Other arguments and errors as of :func:`run_chapter`.
    """
    chapter = run_chapter(
        run,
        cases=cases,
        budget=PICTURES,
        with_reports=with_reports,
        volumes=VOLUMES if viewer else 0,
    )
    return page_html("run.html", [chapter], with_reports=with_reports, viewer=viewer, name=run.name)


def page_html(
    template: str,
    chapters: Sequence[Chapter],
    *,
    with_reports: bool,
    viewer: bool = False,
    **more: object,
) -> str:
    """Return a page.

    Args:
        template: Of the whole page.
        chapters: Of its runs.
        with_reports: Whether report text is in them; the page says so.
        viewer: Whether whole volumes are in them, which need their viewer.
        **more: What else the template needs.
    """
    style, script = _own("page.css"), _own("page.js")
    scripts = [*viewer_scripts(), _own("volumes.js")] if viewer else []
    hashes = " ".join(f"'{_hash(text)}'" for text in (script, *scripts))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src {hashes}; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            # Ours, and free of what would end their elements.
            style=Markup(style),
            script=Markup(script),
            viewer_scripts=[Markup(text) for text in scripts],
            chapters=chapters,
            with_reports=with_reports,
            **more,
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("voxella.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _own(name: str) -> str:
    return files("voxella.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _facts(run: RunFolder) -> list[tuple[str, str]]:
    cases = run.prepared or run.dataset
    facts = []
    if cases is not None:
        counts = (f"{len(cases.split(s))} {s}" for s in ("train", "val", "test") if cases.split(s))
        facts.append(("real cases", f"{len(cases)} ({', '.join(counts)})"))
    steps = (run.records.get("train") or {}).get("facts", {}).get("steps")
    if steps:
        facts.append(("training steps", f"{steps:,}"))
    if run.synthetic is not None:
        facts.append(("synthetic cases", str(len(run.synthetic))))
    metrics = (evaluation_of(run) or {}).get("metrics", {})
    for key in ("kid_3d", "kid", "copies_share_latent"):
        entry = metrics.get(key, {})
        if entry.get("value") is not None:
            facts.append((number_of(key).label, _with_interval(entry)))
    return facts


def _with_interval(entry: dict[str, float]) -> str:
    if entry.get("low") is None:
        return shown(entry["value"])
    return f"{shown(entry['value'])} ({shown(entry['low'])} to {shown(entry['high'])})"
