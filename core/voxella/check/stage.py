"""Stage `check`: everything that is wrong with a data set, at once.

``check/`` in the data set holds ``check.json`` (every finding), ``report.html`` (the page),
``cut_texts.csv`` (reports that the recipe's encoder cuts), ``stage.json`` and ``cases/`` (what was
found case by case, so that a second run is quick). Nothing of the data set is changed, and no
report text is written anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voxella.case import Manifest
from voxella.check.cases import CheckJob, CheckReport, look_at_cases
from voxella.check.duplicates import Picture, by_sequence, duplicates, near_duplicates
from voxella.check.finding import SEVERITIES, Finding
from voxella.check.page import write_page
from voxella.check.quick import across_cases, read_leniently
from voxella.check.reports.findings import text_findings, untrainable
from voxella.check.settings import CheckSettings, images_of
from voxella.check.similarity import Floats, signature
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.recipe.model import Recipe
from voxella.workspace.lock import holding
from voxella.workspace.record import StageRecord

__all__ = ["check", "sorted_findings"]

PAGE = "report.html"
_RESULT = "check.json"


def check(
    dataset: Path,
    recipe: Recipe | None = None,
    *,
    out: Path | None = None,
    page: Path | None = None,
    workers: int = 0,
    show_all: bool = False,
    quiet: bool = False,
) -> CheckReport:
    """Check a data set and write the findings and the page.

    Args:
        dataset: Folder with a manifest.
        recipe: Says sequences, crop, classes and the encoder's limit; None: the defaults.
        out: Folder of the results; None: ``check`` in the data set.
        page: The page's file; None: ``report.html`` in ``out``.
        workers: Processes; 0: as many as cores, where there are cases enough; 1: none but this.
        show_all: Show every case on the page.
        quiet: Show no progress.

    Raises:
        UserError: There is no manifest, or another check is under way. What is wrong with the cases
            is a finding, never an error.
    """
    folder = Path(dataset) / "check" if out is None else Path(out)
    manifest, findings = read_leniently(Path(dataset))
    place = folder / PAGE if page is None else Path(page)
    inputs: dict[str, Any] = {"recipe": None}
    settings = CheckSettings.without_recipe(manifest)
    if recipe is not None:
        blocks = {"data", "prepare", "text", "conditions"}
        inputs = {"recipe": recipe.name, **recipe.model_dump(mode="json", include=blocks)}
        settings = CheckSettings.of(recipe.data, recipe.prepare)
    with holding(folder):
        record = StageRecord(folder, "check", inputs)
        record.invalidate()
        jobs: dict[str, CheckJob] = {}
        for case in manifest:
            images, absent = images_of(manifest, case, settings)
            findings += absent
            jobs[case.id] = CheckJob(images, settings, folder / "cases")
        if (folder / _RESULT).is_file():
            _forget_others(folder / "cases", jobs)
        findings += _look(manifest, jobs, settings, workers, quiet)
        text = None if recipe is None else recipe.text
        given = recipe is not None
        texts, without = text_findings(manifest, settings, text, folder, given=given, quiet=quiet)
        texts += [] if recipe is None else untrainable(manifest, recipe)
        every = sorted_findings([*findings, *texts])
        report = CheckReport(manifest, every, without, folder, place, jobs)
        write_json_atomic(folder / _RESULT, report.as_json())
        write_page(report, show_all=show_all)
        record.complete(cases=len(manifest), **report.counts)
        return report


def sorted_findings(findings: list[Finding]) -> list[Finding]:
    """Return findings worst first, then by code and case."""
    return sorted(
        findings,
        key=lambda found: (
            SEVERITIES.index(found.severity),
            found.code,
            found.case or "",
            found.where or "",
            found.message,
        ),
    )


def _forget_others(folder: Path, jobs: Mapping[str, CheckJob]) -> None:
    """Remove what is kept of cases that the data set no longer has: it holds their pictures."""
    for path in folder.glob("*.npz"):
        if path.stem not in jobs:
            path.unlink()


def _look(
    manifest: Manifest,
    jobs: Mapping[str, CheckJob],
    settings: CheckSettings,
    workers: int,
    quiet: bool,
) -> Iterator[Finding]:
    """Look at all images, then at cases beside each other; thumbnails are not all held at once."""
    splits = {case.id: str(case.split) for case in manifest}
    planes: dict[str, dict[str, str | None]] = {}
    pictures: list[Picture] = []
    signatures: dict[Picture, Floats] = {}
    for job, facts in look_at_cases(list(jobs.values()), workers, quiet=quiet):
        yield from facts.findings
        planes[job.case] = facts.planes
        for name, content in facts.contents.items():
            picture = Picture(job.case, name, splits[job.case], content)
            pictures.append(picture)
            if name in facts.thumbnails:
                signatures[picture] = signature(facts.thumbnails[name])
    yield from across_cases(manifest, planes, settings)
    yield from duplicates(pictures)

    def thumbnail_of(picture: Picture) -> Floats:
        facts = jobs[picture.case].facts()
        if facts is None:
            raise UserError(
                f"case {picture.case}: its images changed while they were checked",
                remedy="run the same again",
            )
        return facts.thumbnails[picture.sequence]

    for group in by_sequence(list(signatures)).values():
        rows = np.stack([signatures[picture] for picture in group])
        yield from near_duplicates(group, rows, thumbnail_of)
