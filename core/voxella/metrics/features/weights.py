"""A released network's weights from a local file, all of them or none."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.files import sha256_file

__all__ = ["load_released"]

_SHOWN = 6
# Heads of the released networks; the features end before them.
_HEADS = ("fc.", "conv_seg.")
# Counts training steps; files older than that counter lack it, and features do not need it.
_COUNTER = "num_batches_tracked"


def load_released(module: nn.Module, path: Path, *, what: str) -> str:
    """Load ``path`` into ``module`` and return the file's SHA-256. Runs no code the file may hold.

    Args:
        module: The network without a head.
        path: Written by ``torch.save``: names to tensors, bare or under ``state_dict``, with or
            without the ``module.`` that data parallel training leaves.
        what: Which network it is, for messages.

    Raises:
        UserError: The file is missing, unreadable, or holds another network; what differs is said.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"no weights of {what}: {path} does not exist",
            remedy="download them where there is a network, and name the file here",
        )
    state = {
        name: tensor for name, tensor in _read(path, what).items() if not name.startswith(_HEADS)
    }
    problems = _differences(module.state_dict(), state)
    if problems:
        raise UserError(
            f"{path} does not hold {what}:\n  " + "\n  ".join(problems),
            remedy="name the file of that very release",
        )
    module.load_state_dict({**_counters(module), **state})
    return sha256_file(path)


def _read(path: Path, what: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as weights of {what} ({type(error).__name__})",
            legal="tensors by name, written by torch.save",
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not _is_state(content):
        raise UserError(f"{path} holds no weights of {what}", legal="tensors by name")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _is_state(content: Any) -> bool:  # noqa: ANN401 - whatever was saved
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(value, Tensor) for value in content.values())
    )


def _differences(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Say what of ``state`` does not fit; nothing where all does."""
    missing = [n for n in expected if n not in state and not n.endswith(_COUNTER)]
    unknown = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    return [
        f"{len(names)} {kind}: " + ", ".join(names[:_SHOWN]) + (", ..." * (len(names) > _SHOWN))
        for kind, names in kinds.items()
        if names
    ]


def _counters(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if name.endswith(_COUNTER)}
