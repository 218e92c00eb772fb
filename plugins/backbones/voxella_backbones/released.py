"""The released CCELLA checkpoints' names, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from voxella_backbones.maisi_unet import MaisiUNet
from voxella_backbones.weights import load_weights

__all__ = [
    "RELEASED_LAYERS",
    "convert_released_state_dict",
    "load_released",
    "released_scale",
    "to_released_state_dict",
]

# Names as they stand in the released checkpoints and in MAISI's own -> our vector's name.
RELEASED_LAYERS: dict[str, str] = {
    "pirads_layer": "class_layer",
    "spacing_layer": "spacing_layer",
    "top_region_index_layer": "top_region_layer",
    "bottom_region_index_layer": "bottom_region_layer",
}
_UNET = "unet."


def convert_released_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the U-Net's part of a released state dict under the names of :class:`MaisiUNet`.

    Takes the ``unet_state_dict`` of a released checkpoint, with or without the ``module.`` of a
    data-parallel wrapper. A text model keeps its U-Net under ``unet.`` beside the adapter (whose
    entries are left out); a model without text is the U-Net itself. One matrix for queries, keys
    and values (MONAI's ``use_combined_linear``) becomes three.

    Args:
        state: Names to tensors.
    """
    bare = {name.removeprefix("module."): value for name, value in state.items()}
    inner = {name: value for name, value in bare.items() if name.startswith(_UNET)}
    converted: dict[str, Tensor] = {}
    for name, value in (inner or bare).items():
        own = _renamed(name.removeprefix(_UNET), RELEASED_LAYERS)
        place, joined, kind = own.rpartition(".qkv.")
        if joined:
            thirds = zip(("to_q", "to_k", "to_v"), value.chunk(3), strict=True)
            converted |= {f"{place}.{one}.{kind}": third for one, third in thirds}
        else:
            converted[own] = value
    return converted


def released_scale(facts: Mapping[str, Any]) -> float | list[float] | None:
    """Return a checkpoint's ``scale_factor``: a number, by channel a list, None where it has none.

    Args:
        facts: What the file holds beside the state dict.
    """
    found = facts.get("scale_factor")
    if isinstance(found, Tensor):
        values = [float(value) for value in found.flatten()]
        return values[0] if len(values) == 1 else values
    return float(found) if isinstance(found, int | float) else None


def to_released_state_dict(state: Mapping[str, Tensor], *, inside: bool) -> dict[str, Tensor]:
    """Return the parameters of :class:`MaisiUNet` under the released names.

    The inverse of :func:`convert_released_state_dict`, from the same table.

    Args:
        state: Names to tensors of the U-Net.
        inside: Whether it is part of a text model, where its names begin with ``unet.``.
    """
    released = {ours: theirs for theirs, ours in RELEASED_LAYERS.items()}
    prefix = _UNET if inside else ""
    return {prefix + _renamed(name, released): tensor for name, tensor in state.items()}


def load_released(unet: MaisiUNet, path: Path) -> str:
    """Load the U-Net of a released checkpoint and return the file's SHA-256.

    Args:
        unet: Built with the vectors and the context that the checkpoint was trained with.
        path: The checkpoint, or a file of its ``unet_state_dict`` alone.

    Raises:
        UserError: If the file is missing, cannot be read, or holds another network.
    """
    return load_weights(unet, path, convert_released_state_dict)


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    layer, dot, rest = name.partition(".")
    return layers.get(layer, layer) + dot + rest
