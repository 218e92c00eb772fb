"""Duplicates: the same voxels twice, and almost the same picture in two splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.check.similarity import ALIGNED, CANDIDATE, Floats, aligned
from voxella.wording import listed

__all__ = ["Picture", "by_sequence", "duplicates", "near_duplicates"]

# Rows of the matrix product that are held at once.
_ROWS = 512
_NAMED = 3


@dataclass(frozen=True)
class Picture:
    """One readable image of a case.

    Attributes:
        case: The case's id.
        sequence: The image's.
        split: The case's.
        content: Hash of its voxels in RAS order.
    """

    case: str
    sequence: str
    split: str
    content: str


def duplicates(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Name every image whose voxels stand elsewhere too."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.content, []).append(picture)
    for group in groups.values():
        if len(group) < 2:
            continue
        code = "duplicate.image"
        if len({picture.split for picture in group}) > 1:
            code = "duplicate.across-splits"
        for picture in group:
            others = [_name(other, picture) for other in group if other is not picture]
            message = f"the same voxels as {listed(others, _NAMED)}"
            yield found(code, message, case=picture.case, where=picture.sequence)


def near_duplicates(
    pictures: Sequence[Picture],
    signatures: Floats,
    thumbnail_of: Callable[[Picture], Floats],
) -> Iterator[Finding]:
    """Name every image that almost stands in another split, too.

    Args:
        pictures: Images of one sequence that have a thumbnail.
        signatures: ``(N, K)``, one row for each.
        thumbnail_of: Gives the thumbnail of a picture; asked of candidates only.
    """
    partners: dict[int, list[str]] = {}
    for i, j in _candidates(pictures, signatures):
        similarity = aligned(thumbnail_of(pictures[i]), thumbnail_of(pictures[j]))
        if similarity >= ALIGNED:
            for own, other in ((i, j), (j, i)):
                name = f"{_name(pictures[other], pictures[own])} (correlation {similarity:.2f})"
                partners.setdefault(own, []).append(name)
    for index in sorted(partners):
        picture = pictures[index]
        message = f"almost the same image as {listed(partners[index], _NAMED)}"
        yield found("duplicate.near", message, case=picture.case, where=picture.sequence)


def _candidates(pictures: Sequence[Picture], signatures: Floats) -> Iterator[tuple[int, int]]:
    """Yield pairs of two splits that look alike; equal voxels are another finding."""
    splits = np.array([picture.split for picture in pictures])
    contents = np.array([picture.content for picture in pictures])
    for start in range(0, len(pictures), _ROWS):
        rows = slice(start, start + _ROWS)
        alike = signatures[rows] @ signatures.T >= CANDIDATE
        alike &= splits[rows, None] != splits[None, :]
        alike &= contents[rows, None] != contents[None, :]
        for i, j in np.argwhere(alike):
            if start + i < j:
                yield int(start + i), int(j)


def by_sequence(pictures: Sequence[Picture]) -> Mapping[str, list[Picture]]:
    """Group pictures by sequence, in order."""
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(picture.sequence, []).append(picture)
    return groups


def _name(other: Picture, picture: Picture) -> str:
    """Name an image as seen from another."""
    if other.case == picture.case:
        return f"{other.sequence} of this case"
    where = f"{other.case} {other.sequence}"
    return where if other.split == picture.split else f"{where} in {other.split}"
