"""Importer ``prostate158``: the Prostate158 data set's tables and images.

::

    voxella import prostate158 TABLES --out DATASET --set images=UNPACKED

Light to import: nothing is read before the importer is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxella.plugins.contracts import Importer
from voxella.plugins.specs import hookimpl

__all__ = ["prostate158", "voxella_factory"]


def prostate158(
    *,
    source: Path,
    images: Path | None = None,
    sequences: Sequence[str] = ("t2w",),
    masks: Sequence[str] = (),
    mask_tolerance_mm: float = 0.5,
    classes: Sequence[str] = ("negative", "positive"),
    conditions: Mapping[str, str] | None = None,
    skip_bad: bool = False,
    encoding: str | None = None,
    copy: bool = False,
) -> Importer:
    """Build the Prostate158 importer.

    Args:
        source: Folder of ``train.csv``, ``valid.csv`` and ``test.csv``, which become the splits
            train, val and test; those that are absent are left out.
        images: Folder somewhere below which the case folders ``020``, ``021``, ... lie, whatever
            the tables' paths begin with; None: the tables' folder.
        sequences: Of t2w, adc, dwi; hbv is another name for dwi, as PI-CAI has it.
        masks: ``anatomy`` (1 central gland, 2 peripheral zone) and ``lesion`` (drawn on the T2W,
            or else on the ADC map, by the first reader; the empty mask where none was drawn), kept
            as further images of a case. The manifest records which file it was.
        mask_tolerance_mm: How far a mask's voxels may lie from those of the T2W image.
        classes: Names of the negative and the positive class, in this order. A case is positive
            where a lesion was drawn, which was done from PI-RADS 4 on; the label's source is
            ``lesion_drawn``, for the tables hold no PI-RADS, no ISUP grade and no report.
        conditions: The tables' column of each thing that a model may be told, by our name, such
            as ``{age: AGE}``: numbers and codes of one word. The tables as they are published have
            none: join yours by ID. An empty cell, and a table without the column, is not known.
        skip_bad: Leave out cases whose images are absent or no images, instead of refusing.
        encoding: Of tables that are not UTF-8 and have no byte-order mark, such as
            ``windows-1251``; None: there are none.
        copy: Copy the images into the data set.
    """
    from voxella.data.drafts import DatasetWriter
    from voxella_importers.prostate158.reader import Prostate158Importer, Prostate158Settings

    settings = Prostate158Settings(
        source=Path(source),
        images=Path(images or source),
        sequences=tuple(sequences),
        masks=tuple(masks),
        mask_tolerance_mm=mask_tolerance_mm,
        classes=tuple(classes),
        conditions=dict(conditions or {}),
        skip_bad=skip_bad,
        encoding=encoding,
    )
    return Prostate158Importer(settings, DatasetWriter(copy=copy))


@hookimpl
def voxella_factory(name: str) -> Callable[..., Any] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return prostate158 if name == "prostate158" else None
