"""Random changes of training images: flip, rotation, translation and zoom, as one resampling.

What happens to an image is a function of (seed, case id, epoch). It is applied on the device that
trains, in one interpolation, where interpolating after each change would blur the image four times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxella.diffusion.noise import seeded_uniform
from voxella.recipe.classification import Augment

__all__ = ["Motion", "apply", "draw"]


@dataclass(frozen=True)
class Motion:
    """What is done to one image of ``n`` spatial axes.

    Attributes:
        flip: Whether the first axis (R) is turned round.
        rotate: Radians about the third axis, from R towards A.
        shift: Of the content along each axis, as a share of the edge.
        zoom: Above 1 the content grows.
    """

    flip: bool
    rotate: float
    shift: tuple[float, ...]
    zoom: float

    @property
    def resamples(self) -> bool:
        """Tell whether voxels are interpolated."""
        return bool(self.rotate or any(self.shift) or self.zoom != 1.0)


def draw(settings: Augment, axes: int, *, seed: int, case_id: str, epoch: int) -> Motion:
    """Draw the motion of one visit.

    Args:
        settings: The recipe's block.
        axes: Spatial axes.
        seed: Of the training.
        case_id: The case.
        epoch: How often it was visited before.
    """
    drawn = seeded_uniform((6 + axes,), seed=seed, case_id=case_id, step=epoch, purpose="augment")
    happens = (drawn[:4] < settings.probability).tolist()
    angle, zoom, *shift = drawn[4:].tolist()
    smallest, largest = settings.zoom
    furthest = settings.translate_shares(axes)
    signed = [most * (2 * share - 1) for most, share in zip(furthest, shift, strict=True)]
    return Motion(
        flip=settings.flip and happens[0],
        rotate=math.radians(settings.rotate_degrees) * (2 * angle - 1) if happens[1] else 0.0,
        shift=tuple(signed) if happens[2] else (0.0,) * axes,
        zoom=smallest + (largest - smallest) * zoom if happens[3] else 1.0,
    )


def sampling_matrix(motion: Motion, size: Sequence[int], spacing_mm: Tensor) -> Tensor:
    """Return where each output voxel comes from, for ``torch.nn.functional.affine_grid``.

    Angles and zoom hold in millimetres, also where voxels are not cubes.

    Args:
        motion: The motion; its flip comes before and is not part of the matrix.
        size: Voxels along each axis.
        spacing_mm: ``(n,)``.

    Returns:
        ``(n, n + 1)`` from output to input, in torch's coordinates: -1 to 1, the last axis first.
    """
    axes = len(size)
    turn = torch.eye(axes, dtype=torch.float64)
    cosine, sine = math.cos(motion.rotate), math.sin(motion.rotate)
    turn[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    half_mm = torch.as_tensor(size, dtype=torch.float64) * spacing_mm.double() / 2
    # A point p mm from the centre goes to zoom * turn @ p + shift; this is the way back.
    back = torch.diag(1 / half_mm) @ turn.T @ torch.diag(half_mm) / motion.zoom
    moved = 2 * torch.tensor(motion.shift, dtype=torch.float64)
    matrix = torch.cat([back.flip(0, 1), -(back @ moved).flip(0)[:, None]], dim=1)
    return matrix.float()


def apply(images: Tensor, flip: Tensor, resample: Tensor, matrices: Tensor) -> Tensor:
    """Return the images after their motions; what is not moved keeps its values exactly.

    Args:
        images: ``(B, C, *spatial)`` float32; what comes in from outside is 0.
        flip: ``(B,)`` bool.
        resample: ``(B,)`` bool.
        matrices: ``(B, n, n + 1)`` of :func:`sampling_matrix`.
    """
    one_each = (-1, *(1,) * (images.ndim - 1))
    images = torch.where(flip.view(one_each), images.flip(2), images)
    grid = nn.functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return torch.where(resample.view(one_each), moved, images)
