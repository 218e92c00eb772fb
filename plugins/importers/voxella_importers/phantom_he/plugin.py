"""Entry point of the importer ``phantom_he``; imports nothing heavy until one is built."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from voxella.errors import UserError
from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["phantom_he", "voxella_factory"]


def phantom_he(
    *,
    slides: int = 12,
    tiles: int = 8,
    seed: int = 0,
    pixels: int = 256,
    mpp: float = 1.0,
    tumour_share: float = 0.5,
    til_share: float = 0.5,
    missing_probabilities: float = 0.0,
    text: str = "caption",
    levels: int = 2,
    thresholds: Sequence[float] | None = None,
    released_classes: bool = False,
    val_share: float = 0.1,
    test_share: float = 0.15,
    workers: int | None = None,
    summaries: int = 1,
    summary_of: str = "own",
) -> Importer:
    """Build the importer of the H&E phantom.

    Args:
        slides: Slides to make. Slide k is the same whatever this is.
        tiles: Tiles of each slide.
        seed: Of everything; another seed is another population.
        pixels: Pixels along each side of a tile.
        mpp: Micrometres per pixel: 1.0 is what a 10x objective gives, 0.5 a 20x one.
        tumour_share: Share of tiles with much tumour.
        til_share: Share of tiles with many lymphocytes.
        missing_probabilities: Share of tiles of which each probability is missing.
        text: What a case's text is: caption, summary or report.
        levels: Of tumour and of lymphocytes in captions and classes: 2, 3 or 4.
        thresholds: Least probability of each level but the lowest; None puts them evenly.
        released_classes: Classes by the rule of PathLDM's released code, which differs from its
            captions' at exactly 0.5 and has a class 4 for tiles without a probability.
        val_share: Share of slides held out for validation.
        test_share: Share of slides held out for testing.
        workers: Processes; None takes one per core, at most four. Never changes a result.
        summaries: Captions of each tile, with as many summaries of its slide's report. A model
            draws one at each visit.
        summary_of: Whose report a caption summarises: ``own``, or ``another`` slide's, drawn for
            each tile, so that the summary says nothing of the image. Levels stay the tile's.

    Raises:
        UserError: Naming every argument that is not allowed.
    """
    from voxella_importers.captions import CaptionRule
    from voxella_importers.phantom_he.importer import PhantomHEImporter
    from voxella_importers.phantom_he.settings import HESettings

    steps = None if thresholds is None else tuple(float(step) for step in thresholds)
    settings = HESettings(
        slides=slides,
        tiles=tiles,
        seed=seed,
        pixels=pixels,
        mpp=float(mpp),
        tumour_share=tumour_share,
        til_share=til_share,
        missing_probabilities=missing_probabilities,
        text=text,
        rule=CaptionRule.of(levels, steps, released=released_classes),
        val_share=val_share,
        test_share=test_share,
        workers=min(os.cpu_count() or 1, 4) if workers is None else workers,
        summaries=summaries,
        summary_of=summary_of,
    )
    problems = settings.problems()
    if problems:
        raise UserError(
            "\n".join(f"importer phantom_he: {problem}" for problem in problems),
            remedy="change the importer's block in the recipe, or the options given to it",
        )
    return PhantomHEImporter(settings)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return phantom_he if name == "phantom_he" else None
