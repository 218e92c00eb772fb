"""A volume as the evaluation sees it: on the prepared grid, in [0, 1], or refused with the reason.

A volume on another grid, in other units or with holes would give numbers like any other; they would
measure the grid, the units or the holes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.evaluation.sets import Subject
from voxella.imaging.volume import Image, read_image

__all__ = ["Images", "read_images", "read_subject", "refuse_together"]

_SHOWN = 8
# Beyond [0, 1] by less than half a grey level of 256 is rounding, of int16 or of a resampling.
_BEYOND = 1 / 512


@dataclass(frozen=True, eq=False)
class Images:
    """A case's images.

    Attributes:
        voxels: ``(C, R, A, S)`` float32 in [0, 1]; C is one a sequence, three where it is in
            colours.
        spacing_mm: ``(3,)``, of the first one's header.
    """

    voxels: Tensor
    spacing_mm: Tensor


def read_images(subject: Subject) -> Images:
    """Return a case's images and their voxels' edges.

    Raises:
        UserError: An image cannot be read, is on another grid, holds NaN or other intensities.
    """
    found = [None if path is None else read_image(path) for path in subject.paths]
    first = found[0]
    assert first is not None, "only later sequences are optional"
    # A sequence that the case lacks is one channel of zeros.
    nothing = torch.zeros(1, *subject.shape)
    windows = subject.windows or ((0.0, subject.scale),) * len(found)
    parts = [
        nothing if image is None else _channels(subject, image, window)
        for image, window in zip(found, windows, strict=True)
    ]
    return Images(torch.cat(parts), torch.tensor(first.first.spacing_mm).float())


def read_subject(subject: Subject) -> Tensor:
    """Return a case's images ``(C, R, A, S)``, float32 in [0, 1].

    Raises:
        UserError: As :func:`read_images`.
    """
    return read_images(subject).voxels


def refuse_together(problems: Iterable[str], cases: int) -> None:
    """Refuse a data set for all of its bad cases at once.

    Args:
        problems: One line a case.
        cases: How many were looked at.

    Raises:
        UserError: There is a problem.
    """
    lines = sorted(problems)
    if not lines:
        return
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    raise UserError(
        f"{len(lines)} of {cases} cases cannot be evaluated:\n  "
        + "\n  ".join([*lines[:_SHOWN], *more]),
        expected="volumes on the prepared grid, finite, in [0, 1] after division by the manifest's "
        "int16_scale",
        remedy="rm volumes that cannot be read, then voxella sample RECIPE makes them again; of "
        "another grid: voxella sample RECIPE --set sample.space=prepared (into a fresh run folder)",
    )


def _channels(subject: Subject, image: Image, window: tuple[float, float]) -> Tensor:
    problem = _wrong_grid(subject, image) or _wrong_values(image, window)
    if problem is not None:
        raise UserError(f"{subject.id}: {problem}")
    low, high = window
    array = image.array[(slice(None), *_middle(image.first.array.shape, subject.shape))]
    scaled = (array - low) / ((high - low) * image.white)
    return torch.from_numpy(scaled).clamp_(0.0, 1.0).float()


def _middle(whole: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Return the middle ``shape`` of a grid; of an odd rest the smaller half comes first."""
    first = [(n - edge) // 2 for n, edge in zip(whole, shape, strict=True)]
    return tuple(slice(f, f + edge) for f, edge in zip(first, shape, strict=True))


def _wrong_grid(subject: Subject, image: Image) -> str | None:
    shape, wanted = image.first.array.shape, subject.whole or subject.shape
    if shape != wanted:
        voxels, asked = (" x ".join(map(str, s)) for s in (shape, wanted))
        return f"{voxels} voxels, where {asked} are compared"
    edges = image.first.spacing_mm if image.in_mm else ()
    for mm, (low, high) in zip(edges, subject.edges_mm or (), strict=False):
        if not low <= mm <= high:
            found = " x ".join(f"{edge:.4g}" for edge in edges)
            allowed = " x ".join(f"{a:.4g}..{b:.4g}" for a, b in subject.edges_mm or ())
            return f"voxels of {found} mm, where the real cases have {allowed}"
    return None


def _wrong_values(image: Image, window: tuple[float, float]) -> str | None:
    array, black = image.array, window[0]
    scale = (window[1] - black) * image.white
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        return f"{bad} voxels are NaN or infinite"
    low, high = ((float(value) - black) / scale for value in (array.min(), array.max()))
    if low < -_BEYOND or high > 1 + _BEYOND:
        return f"intensities from {low:.4g} to {high:.4g} (stored over a scale of {scale:g})"
    return None
