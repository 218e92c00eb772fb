"""What a MetaImage's or NRRD's header says of millimetres and orientation, and what it leaves out.

SimpleITK fills in what is missing: voxels of 1 mm, axes towards left, posterior and superior, any
unit of length taken for mm, a negative edge made positive (measured with 2.5).
"""

from __future__ import annotations

import re

import numpy as np

from voxella.imaging.affine import edges_problem
from voxella.imaging.problem import Problem
from voxella.imaging.text_fields import VECTOR
from voxella.wording import quoted

__all__ = ["geometry_problems"]

_DIRECTIONS = ("transformmatrix", "rotation", "orientation")
# What SimpleITK turns into its own axes; of the other spaces of NRRD it says nothing.
_SPACES = {
    *("left-posterior-superior", "lps"),
    *("right-anterior-superior", "ras"),
    *("left-anterior-superior", "las"),
}
_MILLIMETRES = {"mm", "millimeter", "millimeters", "millimetre", "millimetres"}
# How headers write that they do not say it, which everyone takes for mm.
_UNSAID = {"", "?", "???", "none"}
# Between the length of a direction and 1, and two directions and a right angle.
_UNIT = 1e-3


def geometry_problems(fields: dict[str, str]) -> list[Problem]:
    """Return everything that keeps a header from telling where its voxels lie.

    A flat image need not say how it is turned: its left and right are nowhere else, either.

    Args:
        fields: Values by lower-case key, of the form that :mod:`voxella.imaging.text_fields` asks.
    """
    nrrd = "sizes" in fields
    counts = [int(word) for word in fields["sizes" if nrrd else "dimsize"].split()]
    flat = len(counts) < 3 or counts[2] == 1
    unit = _foreign_unit(fields)
    spacing = _nrrd_spacing(fields) if nrrd else _meta_spacing(fields)
    turned = None if flat else _nrrd_orientation(fields) if nrrd else _meta_orientation(fields)
    units = None if unit is None else ("geometry.units", f"its header counts in {unit}, not in mm")
    return [problem for problem in (units, spacing, turned) if problem is not None]


def _meta_spacing(fields: dict[str, str]) -> Problem | None:
    spacing = fields.get("elementspacing", fields.get("elementsize"))
    if spacing is None:
        return _without_spacing("ElementSpacing")
    return edges_problem(_numbers(spacing)[:3])


def _meta_orientation(fields: dict[str, str]) -> Problem | None:
    said = next((fields[key] for key in _DIRECTIONS if key in fields), None)
    if said is None:
        return _without_orientation("no TransformMatrix")
    lengths = np.linalg.norm(_square(said), axis=1)
    if not (np.abs(lengths - 1.0) <= _UNIT).all():
        return "geometry.affine", "the directions of its TransformMatrix do not have length 1"
    return None


def _nrrd_spacing(fields: dict[str, str]) -> Problem | None:
    directions = fields.get("space directions")
    if directions is None:
        stated = fields.get("spacings")
        missing = "space directions"
        return _without_spacing(missing) if stated is None else edges_problem(_numbers(stated)[:3])
    # Of vectors, those of an axis that is none of space (`none`) say nothing.
    vectors = [_numbers(v.strip("()")) for v in VECTOR.findall(directions) if v[0] == "("]
    if len(vectors) < _axes_of_space(fields):
        return _without_spacing("space directions of one of its axes")
    return edges_problem([float(np.linalg.norm(vector)) for vector in vectors][:3])


def _axes_of_space(fields: dict[str, str]) -> int:
    """Return how many axes are of space; where the header tells no kinds, two at least."""
    kinds = fields.get("kinds", "").lower().split()
    return sum(kind in {"domain", "space"} for kind in kinds) or 2


def _nrrd_orientation(fields: dict[str, str]) -> Problem | None:
    if "space directions" not in fields:
        return _without_orientation("no space directions")
    space = fields.get("space", "").lower()
    if space not in _SPACES:
        return _without_orientation(f"the space {quoted(space)}" if space else "no space")
    return None


def _without_spacing(field: str) -> Problem:
    return "geometry.spacing", f"its header does not say how large a voxel is (no {field})"


def _without_orientation(why: str) -> Problem:
    return "geometry.no-orientation", (
        f"its header does not say how it lies in the scanner ({why}): left and right cannot be "
        "told apart"
    )


def _foreign_unit(fields: dict[str, str]) -> str | None:
    """Return a unit of length other than mm, None where there is none."""
    words = re.findall(r'"([^"]*)"', fields.get("space units", fields.get("units", "")))
    words.append(fields.get("distanceunits", "").strip('"'))
    known = _MILLIMETRES | _UNSAID
    return next((quoted(word) for word in words if word.strip().lower() not in known), None)


def _numbers(words: str) -> list[float]:
    split = re.split(r"[,\s]+", words.strip())
    return [np.nan if word.lower() == "none" else float(word) for word in split]


def _square(words: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    numbers = np.asarray(_numbers(words))
    axes = round(len(numbers) ** 0.5)
    return numbers.reshape(axes, axes)
