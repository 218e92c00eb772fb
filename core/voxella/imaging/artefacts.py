"""Artefacts of MRI by TorchIO: how their parameters are drawn, and what they do to a volume.

TorchIO's random transforms draw from torch's global generator, and so does calling any transform:
hence parameters of our own, and ``apply_transform``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from voxella.philox import keyed_generator

if TYPE_CHECKING:
    import torchio as tio

__all__ = ["applied", "draw_artefact", "with_artefact"]

_BIAS_ORDER = 3
_BIAS_TERMS = 20  # monomials in three variables up to that order
_RESTORED = 0.02  # TorchIO's default: the centre of k-space that ghosts leave alone


def draw_artefact(
    name: str,
    block: Any,  # noqa: ANN401 - one of the blocks of voxella.recipe.augment
    axes: int,
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Return the parameters of an artefact, JSON-ready.

    Args:
        name: One of :data:`voxella.recipe.augment.ARTEFACTS`.
        block: Its settings.
        axes: Spatial axes of the image.
        generator: Used for nothing else.
    """
    return _DRAW[name](block, axes, generator)


def with_artefact(
    name: str, volume: Tensor, spacing_mm: Sequence[float], parameters: Mapping[str, Any]
) -> Tensor:
    """Return a volume with an artefact, in [0, 1].

    Args:
        name: As in :func:`draw_artefact`.
        volume: ``(C, R, A, S)`` float32 in [0, 1]; of a slice, S is 1.
        spacing_mm: ``(3,)``.
        parameters: As drawn.
    """
    return _APPLY[name](volume, list(spacing_mm), parameters).clamp(0.0, 1.0)


def applied(transform: tio.Transform, volume: Tensor, spacing: Sequence[float]) -> Tensor:
    """Return a volume after a deterministic transform of TorchIO; arguments as above."""
    import torchio as tio

    affine = np.diag([*spacing, 1.0])
    subject = tio.Subject(image=tio.ScalarImage(tensor=volume, affine=affine))
    found: Tensor = transform.apply_transform(subject)["image"].data
    return found


def _between(generator: np.random.Generator, low: float, high: float) -> float:
    return float(generator.uniform(low, high))


def _draw_bias_field(block: Any, axes: int, generator: np.random.Generator) -> dict[str, Any]:  # noqa: ANN401 - one of the blocks
    size = (_BIAS_TERMS,)
    return {"coefficients": generator.uniform(-block.strength, block.strength, size).tolist()}


def _draw_motion(block: Any, axes: int, generator: np.random.Generator) -> dict[str, Any]:  # noqa: ANN401 - one of the blocks
    size = (block.movements, 3)
    degrees = generator.uniform(-block.degrees, block.degrees, size)
    moved_mm = generator.uniform(-block.translate_mm, block.translate_mm, size)
    times = np.sort(generator.random(block.movements))
    if axes == 2:
        degrees[:, :2], moved_mm[:, 2] = 0.0, 0.0
    return {
        "degrees": degrees.tolist(),
        "translate_mm": moved_mm.tolist(),
        "times": times.tolist(),
    }


def _draw_ghosting(block: Any, axes: int, generator: np.random.Generator) -> dict[str, Any]:  # noqa: ANN401 - one of the blocks
    low, high = block.ghosts
    return {
        "ghosts": int(generator.integers(low, high, endpoint=True)),
        "axis": int(generator.integers(2)),
        "intensity": _between(generator, *block.intensity),
    }


def _draw_spike(block: Any, axes: int, generator: np.random.Generator) -> dict[str, Any]:  # noqa: ANN401 - one of the blocks
    count = int(generator.integers(1, block.spikes, endpoint=True))
    return {
        "positions": generator.random((count, 3)).tolist(),
        "intensity": _between(generator, *block.intensity),
    }


def _draw_blur(block: Any, axes: int, generator: np.random.Generator) -> dict[str, Any]:  # noqa: ANN401 - one of the blocks
    low, high = block.std_mm
    return {"std_mm": generator.uniform(low, high, size=axes).tolist()}


def _draw_noise(block: Any, axes: int, generator: np.random.Generator) -> dict[str, Any]:  # noqa: ANN401 - one of the blocks
    return {
        "std": _between(generator, *block.std),
        "key": int(generator.integers(2**62)),
    }


def _bias_field(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    field_ = tio.BiasField(coefficients=list(given["coefficients"]), order=_BIAS_ORDER)
    return applied(field_, volume, spacing)


def _motion(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    """Fill k-space from several poses, along A: TorchIO fills along the last axis."""
    import torchio as tio

    order = [0, 2, 1]  # R, S, A
    motion = tio.Motion(
        degrees=np.asarray(given["degrees"])[:, order],
        translation=np.asarray(given["translate_mm"])[:, order],
        times=np.asarray(given["times"]),
        image_interpolation="linear",
    )
    turned = volume.transpose(2, 3).contiguous()
    return applied(motion, turned, [spacing[axis] for axis in order]).transpose(2, 3).contiguous()


def _ghosting(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    ghosts, axis, intensity = given["ghosts"], given["axis"], given["intensity"]
    return applied(tio.Ghosting(ghosts, axis, intensity, _RESTORED), volume, spacing)


def _spike(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    spike = tio.Spike(np.asarray(given["positions"]), given["intensity"])
    return applied(spike, volume, spacing)


def _blur(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    return applied(tio.Blur((*given["std_mm"], 0.0)[:3]), volume, spacing)


def _noise(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    # By hand: TorchIO's noise seeds torch's global generators, and leaves CUDA's that way.
    generator = keyed_generator(given["key"])
    drawn = generator.standard_normal(tuple(volume.shape), dtype=np.float32)
    std: float = given["std"]
    return volume + std * torch.from_numpy(drawn)


_DRAW = {
    "bias_field": _draw_bias_field,
    "motion": _draw_motion,
    "ghosting": _draw_ghosting,
    "spike": _draw_spike,
    "blur": _draw_blur,
    "noise": _draw_noise,
}
_APPLY = {
    "bias_field": _bias_field,
    "motion": _motion,
    "ghosting": _ghosting,
    "spike": _spike,
    "blur": _blur,
    "noise": _noise,
}
