"""Entry point of the importer ``phantom``; imports nothing heavy until an importer is built."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

from voxella.errors import UserError
from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["phantom", "voxella_factory"]


def phantom(
    *,
    cases: int = 48,
    seed: int = 0,
    spacing_mm: Sequence[float] = (1.0, 1.0, 3.0),
    size: Sequence[int] = (160, 160, 32),
    positive_share: float = 0.5,
    missing_reports: float = 0.15,
    label_noise: float = 0.05,
    val_share: float = 0.1,
    test_share: float = 0.15,
    second_lesion_share: float = 0.25,
    benign_focus_share: float = 0.4,
    lesion_size_mm: Sequence[int] = (6, 25),
    oblique_share: float = 0.3,
    lesion_conspicuity: Sequence[float] | None = None,
    peripheral_share: float = 0.7,
    report_style: Literal["free", "short"] = "free",
    workers: int | None = None,
) -> Importer:
    """Build the phantom importer.

    Args:
        cases: Studies to make. Case k is the same whatever this is.
        seed: Of everything; another seed is another population.
        spacing_mm: Nominal voxel spacing along R, A, S; each case varies a little about it.
        size: Voxels along R, A, S.
        positive_share: Share of cases with a PI-RADS 3 to 5 lesion.
        missing_reports: Share of cases without a report (27 % in the paper's training set).
        label_noise: Share of cases whose recorded label is not the true class.
        val_share: Share of patients held out for validation.
        test_share: Share of patients held out for testing.
        second_lesion_share: Share of positive cases that get a second lesion.
        benign_focus_share: Share of negative cases with a faint, benign-looking PI-RADS 2 focus.
        lesion_size_mm: Smallest and largest diameter of a lesion, whole mm within 5 to 25.
        oblique_share: Share of cases whose slices are tilted about the R axis.
        lesion_conspicuity: Lowest and highest of suspicious lesions, 0.36 to 1, where 1 is nearly
            as dark as muscle; None: a quarter from 0.40 to 0.58, the rest from 0.62 to 1.
        peripheral_share: Share of lesions in the peripheral zone, where they stand out.
        report_style: ``free``, or ``short``: volume, lesions and category in one line.
        workers: Processes; None takes one per core, at most four. Never changes a result.

    Raises:
        UserError: Naming every argument that is not allowed.
    """
    from voxella_importers.phantom.importer import PhantomImporter
    from voxella_importers.phantom.settings import PhantomSettings

    settings = PhantomSettings(
        cases=cases,
        seed=seed,
        spacing_mm=tuple(float(step) for step in spacing_mm),
        size=tuple(size),
        positive_share=positive_share,
        missing_reports=missing_reports,
        label_noise=label_noise,
        val_share=val_share,
        test_share=test_share,
        second_lesion_share=second_lesion_share,
        benign_focus_share=benign_focus_share,
        lesion_size_mm=tuple(lesion_size_mm),
        oblique_share=oblique_share,
        lesion_conspicuity=None
        if lesion_conspicuity is None
        else tuple(float(value) for value in lesion_conspicuity),
        peripheral_share=peripheral_share,
        report_style=report_style,
        workers=min(os.cpu_count() or 1, 4) if workers is None else workers,
    )
    problems = settings.problems()
    if problems:
        raise UserError(
            "\n".join(f"importer phantom: {problem}" for problem in problems),
            remedy="fix the importer's block in the recipe, or the options given to it",
        )
    return PhantomImporter(settings)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return phantom if name == "phantom" else None
