"""Data sets of synthetic cases that others made: judged before anything is prepared or measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from voxella.case import MANIFEST, Case, Manifest
from voxella.check.quick import case_headers
from voxella.check.settings import CheckSettings, images_of
from voxella.errors import UserError
from voxella.imaging.geometry import three_axes
from voxella.recipe.inputs import Prepare
from voxella.wording import listed, quoted

__all__ = ["check_samples", "data_sets_in", "refuse_unfit"]

_SHOWN = 20


def data_sets_in(samples: Path) -> list[Path]:
    """Return a data set's folder, or those of the data sets that a folder holds.

    Raises:
        UserError: There is none.
    """
    if (samples / MANIFEST).is_file():
        return [samples]
    found = sorted(path.parent for path in samples.glob(f"*/{MANIFEST}"))
    if not found:
        raise UserError(
            f"{samples} holds no data set",
            expected=f"a folder with {MANIFEST}, or a folder of such folders",
        )
    return found


def check_samples(
    sequences: Sequence[str],
    prepare: Prepare,
    samples: Path,
    *,
    on_grid: bool,
    crop: Sequence[int] | None = None,
) -> None:
    """Refuse a folder of another sort, by manifests and headers: seconds, not hours later.

    Args:
        sequences: That every case must have.
        prepare: Says on which grid.
        samples: A data set folder, or a folder of such.
        on_grid: Whether images have to have as many voxels as are compared, as an evaluation asks.
        crop: Voxels that the model sees of a prepared image, where it does not see all.

    Raises:
        UserError: All that is wrong with all of the data sets.
    """
    problems: list[str] = []
    wanted = three_axes(crop or prepare.size)
    for folder in data_sets_in(Path(samples)):
        try:
            counterparts = Manifest.read(folder)
            refuse_unfit(sequences, counterparts)
        except UserError as error:
            problems += error.problem.splitlines()
            continue
        problems += [
            f"{folder}: {line}"
            for line in _wrong_headers(
                sequences, prepare, counterparts, wanted if on_grid else None
            )
        ]
    if problems:
        more = len(problems) - _SHOWN
        rest = [f"... and {more} more"] if more > 0 else []
        raise UserError(
            "\n".join([*problems[:_SHOWN], *rest]),
            expected=f"a data set with images of {', '.join(sequences)}"
            + (f" of {_voxels(wanted)} voxels" if on_grid else ""),
            remedy="voxella sample RECIPE makes one; voxella check DATASET looks closer",
        )


def refuse_unfit(sequences: Sequence[str], counterparts: Manifest) -> None:
    """Refuse a manifest of synthetic cases that lacks what they are measured by.

    Raises:
        UserError: There is no case; or naming all cases without an image, or of which a fact that
            decides how voxels are read is no number.
    """
    if len(counterparts) == 0:
        raise UserError(f"{counterparts.folder} holds no case", remedy="voxella sample RECIPE")
    problems = [
        *_without_images(sequences, counterparts),
        *(p for case in counterparts for p in _wrong_facts(case)),
    ]
    if problems:
        raise UserError(
            "\n".join(problems),
            expected=f"all of {', '.join(sequences)}; int16_scale above 0",
            remedy="voxella sample RECIPE",
        )


def _without_images(sequences: Sequence[str], counterparts: Manifest) -> Iterator[str]:
    for sequence in sequences:
        ids = [case.id for case in counterparts if sequence not in case.images]
        if ids:
            yield f"{len(ids)} synthetic case(s) have no {sequence} image: {listed(ids, 6)}"
        for case in counterparts:
            path = counterparts.image_path(case, sequence) if sequence in case.images else None
            if path is not None and not path.is_file():
                yield f"case {case.id}: {path} is absent"


def _wrong_facts(case: Case) -> Iterator[str]:
    scale = case.extra.get("int16_scale")
    if scale is not None and not _is_above_zero(scale):
        yield f"case {case.id}: extra.int16_scale is {quoted(scale)}, not a number above 0"
    rules = case.extra.get("intensity")
    if rules is not None and not (isinstance(rules, dict) and all(map(_is_rule, rules.values()))):
        yield f"case {case.id}: extra.intensity has no two rising numbers `window` by sequence"
    spacing = case.extra.get("spacing_mm")
    if spacing is not None and not (
        isinstance(spacing, list) and len(spacing) in (2, 3) and all(map(_is_above_zero, spacing))
    ):
        yield f"case {case.id}: extra.spacing_mm is not two or three numbers above 0"


def _is_rule(rule: object) -> bool:
    window = rule.get("window") if isinstance(rule, dict) else None
    if not isinstance(window, list) or len(window) != 2:
        return False
    known = all(isinstance(n, int | float) and not isinstance(n, bool) for n in window)
    return known and -math.inf < window[0] < window[1] < math.inf


def _is_above_zero(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 < value < math.inf


def _wrong_headers(
    sequences: Sequence[str],
    prepare: Prepare,
    counterparts: Manifest,
    wanted: tuple[int, ...] | None,
) -> Iterator[str]:
    settings = CheckSettings.to_prepare(sequences, prepare)
    for case in counterparts:
        headers = case_headers(images_of(counterparts, case, settings)[0], settings)
        for found in headers.findings:
            if found.severity == "error":
                yield f"case {case.id}: {found.where}: {found.message} ({found.code})"
        for name, place in headers.places.items():
            if wanted is not None and place.shape != wanted:
                has, asked = _voxels(place.shape), _voxels(wanted)
                yield f"case {case.id}: {name}: {has} voxels, where {asked} are compared"


def _voxels(shape: tuple[int, ...]) -> str:
    return " x ".join(str(count) for count in shape)
