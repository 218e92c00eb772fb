"""From a folder to its sections, and the server around them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.view.app import Section
from voxella.view.ask import ask_section
from voxella.view.asking import AskedModel
from voxella.view.compare import compare_section, compared_sets
from voxella.view.data import data_section
from voxella.view.examples import EXAMPLES, examples_of_cases, examples_of_file
from voxella.view.jobs import Jobs
from voxella.view.runs import runs_section
from voxella.view.server import ServeSettings, serve
from voxella.view.target import Target

__all__ = ["ViewSettings", "view"]


@dataclass(frozen=True)
class ViewSettings:
    """How something is shown.

    Attributes:
        out: Folder that "save" writes to.
        show_reports: Report texts of the data set may be shown.
        examples: A file of prompts to begin with; None: the model's own, or a phantom's reports.
        autoencoder: Of a model that was exported without its own.
        device: As torch names it, or ``auto``.
        overrides: ``KEY=VALUE`` over the model's recipe.
    """

    out: Path
    show_reports: bool = False
    examples: Path | None = None
    autoencoder: Path | None = None
    device: str = "auto"
    overrides: Sequence[str] = ()


def view(path: Path, settings: ViewSettings, serving: ServeSettings) -> None:
    """Show a model, a run, a data set or a study until interrupted.

    Raises:
        UserError: There is nothing to show, or it cannot be served.
    """
    serving.check()  # before a model is opened
    target = Target.of(path)
    sections, at_end = sections_of(target, settings)
    serve(sections, serving, shown=target.name, at_end=at_end)


def sections_of(target: Target, settings: ViewSettings) -> tuple[list[Section], Callable[[], None]]:
    """Return what there is to see of a folder, and what ends its work.

    Raises:
        UserError: A model or a manifest in it cannot be read.
    """
    sections: list[Section] = []
    at_end: Callable[[], None] = lambda: None  # noqa: E731 - there may be no queue
    if target.model is not None:
        model = AskedModel(
            target.model,
            autoencoder=settings.autoencoder,
            device=settings.device,
            settings=settings.overrides,
        )
        jobs = Jobs(model.make)
        at_end = jobs.end
        examples = _examples(target, settings)
        sections.append(ask_section(model, jobs, examples, settings.out))
        # The first volume should not wait for what can be loaded while the page opens. No daemon:
        # Python waits for it at its end, and would abort with a thread inside torch.
        threading.Thread(target=model.warm, name="voxella view, loading").start()
    sets = compared_sets(target)
    if sets:
        sections.append(compare_section(sets))
    if target.dataset is not None:
        sections.append(data_section(target.dataset, show_reports=settings.show_reports))
    if target.runs:
        sections.append(runs_section(target.runs))
    return sections, at_end


def _examples(target: Target, settings: ViewSettings) -> list[dict[str, Any]]:
    own = None if target.model is None else target.model / EXAMPLES
    given = settings.examples or (own if own is not None and own.is_file() else None)
    if given is not None:
        return examples_of_file(given)
    for run in target.runs:
        found = examples_of_cases(
            run.recipe.data,
            run.recipe.text_source,
            run.folders.dataset,
            show_reports=settings.show_reports,
        )
        if found:
            return found
    return []
