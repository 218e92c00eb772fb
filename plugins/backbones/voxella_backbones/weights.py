"""Weights from a local file, checked name by name and shape by shape."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.files import sha256_file

__all__ = ["Convert", "load_weights", "read_state_dict"]

Convert = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]

# Where released checkpoints keep the network among other things.
_KEYS = ("state_dict", "autoencoder_state_dict", "unet_state_dict", "model_state_dict", "model")
_SHOWN = 6


def load_weights(module: nn.Module, path: Path, convert: Convert | None = None) -> str:
    """Load ``path`` into ``module``, every parameter or none, and return the file's SHA-256.

    Args:
        module: The network.
        path: ``.safetensors``, or a file of ``torch.save``.
        convert: From another release's names to ours; tried if the names do not fit as they are.

    Raises:
        UserError: If the file is missing, cannot be read, or holds another network; what differs
            is listed.
    """
    path = Path(path)
    state = read_state_dict(path)
    problems = _differences(module, state)
    if problems and convert is not None:
        converted = convert(state)
        left = _differences(module, converted)
        if not left:
            state, problems = converted, left
    if problems:
        raise UserError(
            f"{path} does not hold the weights of this network:\n  " + "\n  ".join(problems),
            remedy="name the right file under `weights`, or set the sizes it was trained with",
        )
    module.load_state_dict(state)
    return sha256_file(path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the names and tensors of a weights file, without running any code it may hold.

    Raises:
        UserError: If the file is missing or no weights file.
    """
    if not path.is_file():
        raise UserError(f"no weights file {path}", remedy="name an existing file under `weights`")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a weights file ({type(error).__name__})",
            legal=".safetensors, or tensors written by torch.save",
        ) from error
    return _tensors(content, path)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:  # noqa: ANN401 - whatever was saved
    """Find the state dict in a checkpoint."""
    for key in _KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise UserError(f"{path} holds no state dict", legal="names to tensors")
    if not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(
            f"{path} holds no state dict of tensors",
            legal=f"names to tensors, bare or under one of {', '.join(_KEYS)}",
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _differences(module: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Describe what of ``state`` does not fit ``module``; empty when all does."""
    expected = module.state_dict()
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    groups = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    return [f"{len(names)} {kind}: {_some(names)}" for kind, names in groups.items() if names]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, ..."
