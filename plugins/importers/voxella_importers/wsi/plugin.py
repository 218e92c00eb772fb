"""Importer ``wsi``: tiles out of a folder of whole slides.

::

    voxella import wsi SLIDES --out DATASET --set magnification=10 --set side=256

Needs the extra ``histology`` (OpenSlide). Light to import: nothing is read before it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["voxella_factory", "wsi"]


def wsi(
    *,
    source: Path,
    side: int = 256,
    magnification: float | None = None,
    mpp: float | None = None,
    slide_magnification: float | Mapping[str, float] | None = None,
    slide_mpp: float | Mapping[str, float] | None = None,
    tissue: float = 0.25,
    edges: float = 0.0,
    quality: int | None = 90,
    most_tiles: int | None = None,
    tumor: Path | None = None,
    til: Path | None = None,
    columns: Mapping[str, str] | None = None,
    summaries: Path | None = None,
    text: str = "caption",
    levels: int = 2,
    thresholds: Sequence[float] | None = None,
    released_classes: bool = False,
    group: str | None = None,
    seed: int = 0,
    val_share: float = 0.1,
    test_share: float = 0.1,
    parquet_above: int = 100_000,
    workers: int = 0,
) -> Importer:
    """Build the importer of slides.

    Args:
        source: Folder of slides, searched below as well.
        side: Pixels along a tile's side.
        magnification: At which tiles are cut, such as 10. Give this or ``mpp``.
        mpp: Micrometres per pixel at which tiles are cut, such as 0.5.
        slide_magnification: What slides do not say, or say wrongly: their objective's power, one
            number for all or by slide.
        slide_mpp: The same in micrometres per pixel of the full resolution.
        tissue: Least share of a tile's pixels that are stained; 0 keeps glass.
        edges: Least mean edge response of a tile; 15 is PathLDM's tiler, 0 is off.
        quality: Of the JPEG that tiles become; null: PNG.
        most_tiles: Of a slide, the first in reading order; null: all.
        tumor: Folder of WSInfer's tables of tumour probability, ``SLIDE.csv``.
        til: The same of lymphocytes.
        columns: Of the probabilities in those tables, where they are not called ``prob_Tumor`` and
            ``prob_Lymphocytes``: ``{tumor: NAME, til: NAME}``.
        summaries: Of reports: a table with ``id`` (slide or patient) and ``summary``, as
            ``voxella summarise`` writes it, or a folder of ``NAME.txt``.
        text: A case's text: caption (levels, then the summary) or summary.
        levels: Of tumour and of lymphocytes in captions and classes: 2, 3 or 4.
        thresholds: Least probability of each level but the lowest; null puts them evenly.
        released_classes: Classes by the rule of PathLDM's released code.
        group: Regular expression with one group in brackets: the patient in a slide's name, such as
            ``^(TCGA-..-....)``; null: each slide is a group. Splits never part a group.
        seed: Of the split by group.
        val_share: Share of groups held out for validation.
        test_share: Share of groups held out for testing.
        parquet_above: More tiles than these become ``manifest.parquet``.
        workers: Processes, a slide each at a time; 0: as many as cores. Never changes a result.

    Raises:
        UserError: OpenSlide is not installed; or every argument that is not allowed.
    """
    if find_spec("openslide") is None:
        raise UserError(
            "importer wsi reads slides through OpenSlide, which is not installed",
            remedy="pip install 'voxella[histology]'",
        )
    from voxella_importers.captions import CaptionRule
    from voxella_importers.wsi.importer import WsiImporter
    from voxella_importers.wsi.settings import Given, WsiSettings

    steps = None if thresholds is None else tuple(float(step) for step in thresholds)
    settings = WsiSettings(
        source=Path(source),
        side=side,
        magnification=magnification,
        mpp=mpp,
        slide_magnification=Given.of(slide_magnification),
        slide_mpp=Given.of(slide_mpp),
        tissue=tissue,
        edges=edges,
        quality=quality,
        most_tiles=most_tiles,
        tumor=None if tumor is None else Path(tumor),
        til=None if til is None else Path(til),
        columns=dict(columns or {}),
        summaries=None if summaries is None else Path(summaries),
        text=text,
        rule=CaptionRule.of(levels, steps, released=released_classes),
        group=group,
        seed=seed,
        val_share=val_share,
        test_share=test_share,
        parquet_above=parquet_above,
        workers=workers,
    )
    problems = settings.problems()
    if problems:
        raise UserError(
            "\n".join(f"importer wsi: {problem}" for problem in problems),
            remedy="change the importer's block in the recipe, or the options given to it",
        )
    return WsiImporter(settings)


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return wsi if name == "wsi" else None
