"""Random changes of an image: flip, rotation, translation, zoom, and artefacts of MRI.

What happens to an image is a function of (seed, case id, epoch). It is drawn from our own keyed
generator and handed to TorchIO's deterministic transforms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from voxella.diffusion.noise import seeded_uniform
from voxella.imaging.artefacts import applied, draw_artefact, with_artefact
from voxella.philox import keyed_generator
from voxella.recipe.augment import ARTEFACTS, Augment

__all__ = ["Change", "augmented", "draw"]


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
        """Return whether voxels are interpolated."""
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
                artefacts[name] = draw_artefact(name, block, axes, generator)
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
        volume = with_artefact(name, volume, spacing, parameters)
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
    moved = applied(move, nn.functional.pad(volume, rim), spacing)
    return nn.functional.pad(moved, [-width for width in rim]).contiguous()
