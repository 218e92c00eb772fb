"""Volumes as strips of slices: one small JPEG per plane, real on the left, synthetic on the right.

A whole volume would make the page too large to mail. Slices are thinned and shrunk, as little as
keeps a pair within its allowance of bytes.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from voxella.imaging.montage import three_planes
from voxella.report.pairs import Shown

__all__ = ["PLANES", "Sprite", "Sprites", "data_uri", "make_sprites", "middle_slice"]

PLANES = ("sagittal", "coronal", "axial")  # by the axis that a slice is perpendicular to
# Longest edge of a slice in pixels, and slices per plane; the last holds whatever it costs.
_LADDER = ((256, 48), (208, 40), (160, 32), (128, 24), (96, 16))
_QUALITY = 78
# JPEG codes blocks of eight pixels: slices on their borders do not bleed into each other.
_BLOCK = 8
_THUMBNAIL = 112

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Sprite:
    """One plane's slices in one picture.

    Attributes:
        plane: ``axial``, ``coronal`` or ``sagittal``.
        uri: The picture, a strip from the lowest slice to the highest.
        width: Of one slice, in pixels.
        height: Of one slice, in pixels.
        pitch: Pixels from one slice to the next: right to the synthetic one, down to the next.
        count: Slices in the strip.
        of: Slices that the volume has.
    """

    plane: str
    uri: str
    width: int
    height: int
    pitch: tuple[int, int]
    count: int
    of: int


@dataclass(frozen=True)
class Sprites:
    """A pair of volumes.

    Attributes:
        planes: Axial, coronal, sagittal; the axial one alone for a single slice.
        thumbnail: The middle axial slices beside each other.
    """

    planes: tuple[Sprite, ...]
    thumbnail: str

    @property
    def size(self) -> int:
        """Return the bytes that all of it takes in the page."""
        return len(self.thumbnail) + sum(len(sprite.uri) for sprite in self.planes)


def make_sprites(real: Shown | None, synthetic: Shown, allowance: int) -> Sprites:
    """Return a pair's pictures, as fine as ``allowance`` bytes permit.

    Args:
        real: None: the left halves stay black.
        synthetic: Beside it.
        allowance: Bytes in the page; the coarsest strips are taken even where they exceed it.
    """
    for edge, count in _LADDER:
        found = _make(real, synthetic, edge, count)
        if found.size <= allowance:
            break
    return found


def _make(real: Shown | None, synthetic: Shown, edge: int, count: int) -> Sprites:
    flat = synthetic.shape[2] == 1
    axes = (2,) if flat else (2, 1, 0)
    planes = tuple(_sprite(real, synthetic, axis, edge, count) for axis in axes)
    sides = [side for side in (real, synthetic) if side is not None]
    middle = [middle_slice(side, _THUMBNAIL) for side in sides]
    framed = [_framed(picture, *_largest(middle)) for picture in middle]
    return Sprites(planes, data_uri(np.concatenate(framed, axis=1)))


def middle_slice(side: Shown, edge: int) -> Picture:
    """Return the middle axial slice, its longest edge ``edge`` pixels at most."""
    return _slices(side, 2, edge, 1)[0]


def _sprite(real: Shown | None, synthetic: Shown, axis: int, edge: int, most: int) -> Sprite:
    sides = [side for side in (real, synthetic) if side is not None]
    of = max(side.shape[axis] for side in sides)
    count = min(of, most)
    columns = [_slices(side, axis, edge, count) for side in sides]
    width, height = _largest([picture for column in columns for picture in column])
    pitch = (_rounded(width), _rounded(height))
    sides_of_colour = [column[0].shape[2:] for column in columns]
    shape = (pitch[1] * count, pitch[0] * 2, *max(sides_of_colour, key=len))
    strip = np.zeros(shape, dtype=np.uint8)
    for place, column in zip((0, 1) if real is not None else (1,), columns, strict=True):
        for number, picture in enumerate(column):
            top, left = number * pitch[1], place * pitch[0]
            framed = _framed(picture, width, height)
            if framed.ndim < strip.ndim:
                framed = framed[..., None]
            strip[top : top + height, left : left + width] = framed
    return Sprite(PLANES[axis], data_uri(strip), width, height, pitch, count, of)


def _slices(side: Shown, axis: int, edge: int, count: int) -> list[Picture]:
    """Return ``count`` slices, spread evenly from the first to the last; one: the middle one."""
    across = [k for k in range(3) if k != axis]
    extent = [side.shape[k] * side.spacing_mm[k] for k in across]
    spacing = [side.spacing_mm[k] for k in across]
    pixel_mm = max(*(mm / edge for mm in extent), min(spacing))
    last = side.shape[axis] - 1
    places = np.linspace(0, last, count).round() if count > 1 else np.array([(last + 1) // 2])
    return [
        three_planes(_slice(side, int(place), axis), spacing, pixel_mm=pixel_mm) for place in places
    ]


def _slice(side: Shown, place: int, axis: int) -> NDArray[np.float32]:
    """Return one slice: ``(H, W)``, or ``(3, H, W, 1)`` in colours."""
    found: NDArray[np.float32] = np.take(side.array, place, axis=axis - 3)
    return found if found.ndim == 2 else found[..., None]


def _largest(pictures: list[Picture]) -> tuple[int, int]:
    return max(p.shape[1] for p in pictures), max(p.shape[0] for p in pictures)


def _framed(picture: Picture, width: int, height: int) -> Picture:
    """Put a picture, grey or in colours, into the middle of a black one."""
    above, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    below, right = height - picture.shape[0] - above, width - picture.shape[1] - left
    return np.pad(picture, ((above, below), (left, right), (0, 0))[: picture.ndim])


def _rounded(pixels: int) -> int:
    return -(-pixels // _BLOCK) * _BLOCK


def data_uri(picture: Picture, widest: int | None = None) -> str:
    """Return a picture, grey ``(H, W)`` or in colours ``(H, W, 3)``, as JPEG inside an address.

    Args:
        picture: What is shown.
        widest: Pixels; a wider picture is shrunk.
    """
    image = Image.fromarray(picture)
    if widest is not None and image.width > widest:
        image = image.resize((widest, max(1, round(image.height * widest / image.width))))
    held = io.BytesIO()
    image.save(held, format="JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"
