"""Random changes of an image: flip, rotation, translation, zoom, and artefacts of MRI.

What happens to an image is a function of (seed, case id, epoch). It is drawn from our own keyed
generator and handed to TorchIO's deterministic transforms. Their random ones draw from torch's
global generator, and so does calling a transform: hence ``apply_transform``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from voxella.diffusion.noise import seeded_uniform
from voxella.philox import keyed_generator
from voxella.recipe.augment import ARTEFACTS, Augment

if TYPE_CHECKING:
    import torchio as tio

__all__ = ["Change", "augmented", "draw"]

_BIAS_ORDER = 3
_BIAS_TERMS = 20  # monomials in three variables up to that order
_RESTORED = 0.02  # TorchIO's default: the centre of k-space that ghosts leave alone


@dataclass(frozen=True)
class Change:
    """What is done to one image of ``n`` spatial axes.

    Attributes:
        flip: Whether the first axis (R) is turned round.
        rotate: Degrees about the third axis, from R towards A.
        shift: Of the content along each axis, as a share of the edge.
        zoom: Above 1 the content grows.
        artefacts: Their parameters by name, JSON-ready.
    """

    flip: bool
    rotate: float
    shift: tuple[float, ...]
    zoom: float
    artefacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @property
    def resamples(self) -> bool:
        """Tell whether voxels are interpolated."""
        return bool(self.rotate or any(self.shift) or self.zoom != 1.0)

    def as_json(self) -> dict[str, Any]:
        """Return the change as JSON-ready data."""
        return {**asdict(self), "shift": list(self.shift)}


def draw(settings: Augment, axes: int, *, seed: int, case_id: str, epoch: int) -> Change:
    """Draw the change of one visit.

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
    artefacts = {}
    for name in ARTEFACTS:
        if (block := getattr(settings, name)) is not None:
            # A generator of its own: switching one artefact on moves no other.
            generator = keyed_generator(seed, f"augment/{name}", case_id, epoch)
            if generator.random() < block.probability:
                artefacts[name] = _DRAW[name](block, axes, generator)
    return Change(
        flip=settings.flip and happens[0],
        rotate=settings.rotate_degrees * (2 * angle - 1) if happens[1] else 0.0,
        shift=tuple(signed) if happens[2] else (0.0,) * axes,
        zoom=smallest + (largest - smallest) * zoom if happens[3] else 1.0,
        artefacts=artefacts,
    )


def augmented(image: Tensor, change: Change, spacing_mm: Sequence[float]) -> Tensor:
    """Return an image after its change; what is not touched keeps its values exactly.

    Args:
        image: ``(C, *spatial)`` float32 in [0, 1], 2 or 3 spatial axes; what comes in from outside
            is 0.
        change: Drawn for it.
        spacing_mm: ``(n,)``; angles and zoom hold in millimetres, also where voxels are no cubes.

    Returns:
        As ``image``, in [0, 1].
    """
    axes = image.ndim - 1
    spacing = [float(edge) for edge in spacing_mm] + [1.0] * (3 - axes)
    volume = image if axes == 3 else image[..., None]
    if change.flip:
        volume = volume.flip(1)
    if change.resamples:
        volume = _moved(volume, change, spacing, flat=axes == 2)
    for name, parameters in change.artefacts.items():
        volume = _APPLY[name](volume, spacing, parameters).clamp(0.0, 1.0)
    return volume if axes == 3 else volume[..., 0]


def _moved(volume: Tensor, change: Change, spacing: list[float], *, flat: bool) -> Tensor:
    """Rotate, shift and zoom in one interpolation; four would blur the image four times."""
    import torchio as tio

    edges_mm = [n * edge for n, edge in zip(volume.shape[1:], spacing, strict=True)]
    # A rim of zeros: at the border, too, the image fades into 0 within a voxel. A slice has none.
    rim = (0, 0, 1, 1, 1, 1) if flat else (1,) * 6  # from the last axis to the first
    shift = [*change.shift, 0.0][:3]
    # TorchIO moves before it zooms; a shift is of the content as it ends up.
    shift_mm = [share * edge / change.zoom for share, edge in zip(shift, edges_mm, strict=True)]
    move = tio.Affine(
        scales=(change.zoom,) * 3,
        degrees=(0.0, 0.0, change.rotate),
        translation=tuple(shift_mm),
        default_pad_value=0.0,
    )
    moved = _applied(move, nn.functional.pad(volume, rim), spacing)
    return nn.functional.pad(moved, [-width for width in rim]).contiguous()


def _applied(transform: tio.Transform, volume: Tensor, spacing: Sequence[float]) -> Tensor:
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
    return _applied(field_, volume, spacing)


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
    return _applied(motion, turned, [spacing[axis] for axis in order]).transpose(2, 3).contiguous()


def _ghosting(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    ghosts, axis, intensity = given["ghosts"], given["axis"], given["intensity"]
    return _applied(tio.Ghosting(ghosts, axis, intensity, _RESTORED), volume, spacing)


def _spike(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    spike = tio.Spike(np.asarray(given["positions"]), given["intensity"])
    return _applied(spike, volume, spacing)


def _blur(volume: Tensor, spacing: list[float], given: Mapping[str, Any]) -> Tensor:
    import torchio as tio

    return _applied(tio.Blur((*given["std_mm"], 0.0)[:3]), volume, spacing)


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
