"""Weights from a local file: read without running code, held against a network name by name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.wording import listed

__all__ = ["differences", "read_state_dict"]

# Where released checkpoints keep the network among other things.
_KEYS = ("state_dict", "autoencoder_state_dict", "unet_state_dict", "model_state_dict", "model")
_SHOWN = 6
# What trainers' checkpoints hold beside tensors: settings and callbacks, objects of these packages.
_TRAINERS = frozenset({"pytorch_lightning", "lightning", "omegaconf", "numpy"})


def read_state_dict(path: Path, *, what: str, remedy: str) -> dict[str, Tensor]:
    """Return the names and tensors of a weights file, without running any code it may hold.

    Args:
        path: ``.safetensors``, or written by ``torch.save``: names to tensors, bare or under a key
            that releases use, with or without the ``module.`` that data parallel training leaves.
        what: Which network's they should be, for messages.
        remedy: What to do where there is no such file.

    Raises:
        UserError: The file is missing or no weights file.
    """
    if not path.is_file():
        raise UserError(f"no weights of {what}: {path} does not exist", remedy=remedy)
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with safe_globals(_inert(path)):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # over a damaged file pickle raises anything
        raise_if_machine(error, path)
        raise UserError(
            f"{path} cannot be read as weights of {what} ({type(error).__name__})",
            expected=".safetensors, or tensors by name written by torch.save",
        ) from error
    for key in _KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not _is_state(content):
        raise UserError(
            f"{path} holds no weights of {what}",
            expected=f"tensors by name, bare or under one of {', '.join(_KEYS)}",
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def differences(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Say what of ``state`` does not fit what is expected; nothing where all does."""
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    groups = {
        "missing": [name for name in expected if name not in state],
        "unknown": [name for name in state if name not in expected],
        "of another shape": shapes,
    }
    return [
        f"{len(names)} {kind}: {listed(names, _SHOWN)}" for kind, names in groups.items() if names
    ]


class _Inert:
    """Stands for an object of a trainer's package; that package is not imported."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.given = (args, kwargs)

    def __setstate__(self, state: object) -> None:
        self.state = state


def _inert(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return a stand-in for each class that a trainer's checkpoint names beside its tensors.

    Without them torch would refuse the whole file, whose tensors need none of these classes.
    """
    if not zipfile.is_zipfile(path):
        return []  # of before torch 1.6: torch lists no names of such a file
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_stand_in(), name) for name in names if name.split(".")[0] in _TRAINERS]


def _stand_in() -> type[_Inert]:
    # One for each name: torch looks allowed classes up by identity.
    return type("Inert", (_Inert,), {})


def _is_state(content: Any) -> bool:  # noqa: ANN401 - whatever was saved
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(value, Tensor) for value in content.values())
    )
