"""A data set as the released CCELLA code reads it: the way back from the importer ``ccella``.

Written are ``train.json``, ``test.json`` and, where there are validation cases, ``val.json``, which
the released code does not read; ``images/<folder>/axt2.nii.gz``; ``cases.xlsx``; and, where token
features are known, ``train_merged.json`` and its like.

The spreadsheet's column Label holds the split: the released README calls it the class, but the
released code picks its training and test cases by it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxella.case import Case, Manifest
from voxella.data.drafts import warn
from voxella.data.grouping import Problems, image_problem, spans
from voxella.data.mask_grids import read_grid
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.files import atomic_path, make_folder, write_text_atomic
from voxella_importers.ccella.entries import (
    entry_of,
    image_name,
    row_of,
    volume_problem,
    with_features,
)
from voxella_importers.ccella.lists import KEYS
from voxella_importers.ccella.sheet import COLUMNS

__all__ = ["SHEET", "CcellaExport", "export_ccella", "write_sheet"]

SHEET = "cases.xlsx"
_SPLITS = ("train", "val", "test")
# As the manifest of a synthetic data set has them; the released code does not mind.
_PREDICTED = ("predicted_label", "predicted_probability")


@dataclass(frozen=True)
class CcellaExport:
    """How a data set is exported.

    Attributes:
        with_text: Write reports into the lists. Off, every ``text`` is empty and ``text_isnull`` 1.
        copy: Copy images; off, they are symbolic links.
        classes: Names of the negative and the positive class.
        name: ``dataset`` of cases that do not say it themselves.
    """

    with_text: bool = False
    copy: bool = False
    classes: Sequence[str] = ("negative", "positive")
    name: str = "voxella"


def export_ccella(
    dataset: Manifest,
    out: Path,
    settings: CcellaExport,
    *,
    prepared: Manifest | None = None,
    text_cache: Path | None = None,
) -> list[Path]:
    """Write a data set's lists, spreadsheet and images; return the lists and the spreadsheet.

    Args:
        dataset: Labels, splits and reports. Cases without a label are left out.
        out: Folder that is made; lists in it are not overwritten.
        settings: How.
        prepared: The same cases on one grid, as the released code wants them: their images are
            taken.
        text_cache: Token features to write as well. None: files that the cases themselves name
            (``extra.text_features``), where all do.

    Raises:
        UserError: Lists would be overwritten; labels are not the two classes; images are absent or
            not ``.nii.gz``; or the cache does not fit.
    """
    if there := [path.name for path in _targets(out) if path.exists()]:
        raise UserError(
            f"{out}: {', '.join(there)} is there already and not overwritten",
            remedy="give another --out",
        )
    cases = [case for case in dataset if case.label is not None]
    _check_labels(cases, settings.classes)
    if left := [case.id for case in dataset if case.label is None]:
        warn(f"{len(left)} cases without a label are left out: {spans(left)}")
    texts = read_reports(Manifest(dataset.folder, cases)) if settings.with_text else {}
    images = _images(cases, dataset if prepared is None else prepared)
    for case in cases:
        for sequence, path in images[case.id].items():
            _place(path, out / "images" / image_name(case, sequence), copy=settings.copy)
    entries = {
        case.id: _entry(case, images[case.id], texts.get(case.id, ""), settings) for case in cases
    }
    features = _features(cases, text_cache, out)
    written = [write_sheet(cases, out / SHEET, settings.classes[1])]
    for split in _SPLITS:
        ids = [case.id for case in cases if case.split == split]
        if ids or split != "val":
            written.append(_write(out / f"{split}.json", [entries[case] for case in ids]))
            if features:
                rows = [
                    with_features(entries[case], str(features[case][0]), is_null=features[case][1])
                    for case in ids
                ]
                written.append(_write(out / f"{split}_merged.json", rows))
    return written


def _targets(out: Path) -> list[Path]:
    lists = [out / f"{split}{kind}.json" for split in _SPLITS for kind in ("", "_merged")]
    return [*lists, out / SHEET]


def _check_labels(cases: Sequence[Case], classes: Sequence[str]) -> None:
    if not cases:
        raise UserError("no case has a label: there is nothing to export")
    other = [case.id for case in cases if case.label not in classes]
    if other:
        labels = sorted({str(case.label) for case in cases})
        raise UserError(
            f"{len(other)} cases have labels of other classes: {spans(other)} "
            f"(labels: {', '.join(labels)})",
            expected=", ".join(classes),
            remedy="name the negative and the positive class: --classes NEGATIVE POSITIVE",
        )


def _images(cases: Sequence[Case], source: Manifest) -> dict[str, dict[str, Path]]:
    """Return the images of each case that the released code has a name for, and can read.

    Raises:
        UserError: Some are absent or of another format: all of them.
    """
    by_id = {case.id: case for case in source}
    problems = Problems()
    found: dict[str, dict[str, Path]] = {}
    for case in cases:
        there = by_id.get(case.id)
        names = [name for name in KEYS if there is not None and name in there.images]
        if there is None or "t2w" not in names:
            problems.add(case.id, "no t2w image" if there else f"not in {source.folder}")
            continue
        found[case.id] = {name: source.image_path(there, name) for name in names}
        for name, path in found[case.id].items():
            if problem := image_problem(name, path) or volume_problem(name, path):
                problems.add(case.id, problem)
    if problems.cases:
        raise UserError(
            "\n".join([f"{len(problems.cases)} cases cannot be exported:", *problems.lines()]),
            remedy="prepare volumes, voxella prepare RECIPE --dataset DATASET --out RUN, and "
            "export with --prepared RUN/prepared; pictures stay as they are",
        )
    return found


def _place(source: Path, target: Path, *, copy: bool) -> None:
    """Link or copy an image; one that is there already is replaced."""
    if copy:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return
    make_folder(target.parent)
    link = target.with_name(f".partial-{target.name}")
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(source.resolve())
    except OSError as error:
        raise UserError(
            f"{target}: no symbolic link can be made: {error.strerror}",
            remedy="export copies of the images: --copy",
        ) from error
    link.replace(target)


def _entry(
    case: Case, images: Mapping[str, Path], text: str, settings: CcellaExport
) -> dict[str, Any]:
    _, affine = read_grid(images["t2w"])
    return entry_of(
        case,
        sequences=list(images),
        # A header holds float32: more digits would be noise.
        spacing_mm=np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist(),
        positive=case.label == settings.classes[1],
        text=text,
        name=settings.name,
    )


def _features(
    cases: Sequence[Case], text_cache: Path | None, out: Path
) -> dict[str, tuple[Path, bool]]:
    """Return each case's file of token features and whether it is the empty report's."""
    if text_cache is not None:
        from voxella_importers.ccella.features import write_features

        files = write_features(cases, text_cache, out / "features")
        return {case: (path, path.name == "null.npy") for case, path in files.items()}
    named = {
        case.id: (Path(case.extra["text_features"]), "text_isnull" in case.extra)
        for case in cases
        if "text_features" in case.extra
    }
    if named and len(named) < len(cases):
        warn(f"only {len(named)} of {len(cases)} cases name text features: no merged lists written")
        return {}
    return named


def _write(path: Path, entries: list[dict[str, Any]]) -> Path:
    return write_text_atomic(path, json.dumps(entries, ensure_ascii=False))


def write_sheet(cases: Sequence[Case], path: Path, positive: str) -> Path:
    """Write the released code's spreadsheet.

    Where a text head said what it makes of the prompts, its class and the probability of that are
    two more columns.

    Args:
        cases: Each with a label.
        path: Ends in ``.xlsx``.
        positive: Name of the positive class.
    """
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    page = book.create_sheet("cases")
    predicted = [
        name for name in _PREDICTED if any(case.extra.get(name) is not None for case in cases)
    ]
    page.append([*COLUMNS, *predicted])
    for case in cases:
        row = row_of(case, case.label == positive)
        page.append([*row, *(case.extra.get(name) for name in predicted)])
    with atomic_path(path) as temporary:
        book.save(temporary)
    return path
