"""Weights from a local file: read without running code, held against a network name by name."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.serialization import safe_globals

from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.machine import raise_if_machine
from voxella.wording import listed

__all__ = [
    "KeyReport",
    "compare_keys",
    "not_it",
    "read_checkpoint",
    "read_state_dict",
    "state_of",
    "with_counters",
    "write_state_dict",
]

# Where released checkpoints keep the network among other things.
_KEYS = ("state_dict", "autoencoder_state_dict", "unet_state_dict", "model_state_dict", "model")
_SHOWN = 6
# Buffers of a batch norm.
_MEAN, _COUNTER = "running_mean", "num_batches_tracked"
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
    return state_of(read_checkpoint(path, what=what, remedy=remedy), path, what=what)


def read_checkpoint(path: Path, *, what: str, remedy: str) -> Any:  # noqa: ANN401 - whatever was saved
    """Return all that a weights file holds, the tensors on the CPU; arguments and errors as above.

    Objects of a trainer's package are stand-ins that do nothing.
    """
    if not path.is_file():
        raise UserError(f"no weights of {what}: {path} does not exist", remedy=remedy)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with safe_globals(_inert(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # over a damaged file pickle raises anything
        raise_if_machine(error, path)
        raise UserError(
            f"{path} cannot be read as weights of {what} ({type(error).__name__})",
            expected=".safetensors, or tensors by name written by torch.save",
        ) from error


def state_of(content: Any, path: Path, *, what: str) -> dict[str, Tensor]:  # noqa: ANN401 - see above
    """Return the network's names and tensors out of what :func:`read_checkpoint` returned."""
    for key in _KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not _is_state(content):
        raise UserError(
            f"{path} holds no weights of {what}",
            expected=f"tensors by name, bare or under one of {', '.join(_KEYS)}",
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def not_it(
    path: Path,
    state: Mapping[str, Tensor],
    holds: str,
    *,
    expected: str,
    remedy: str | None = None,
) -> UserError:
    """Return the refusal of a file of tensors that are another network's.

    Args:
        path: The file.
        state: What it holds.
        holds: What it does not, for the message: ``no U-Net of ...``.
        expected: Names that tell the network.
        remedy: What to do.
    """
    told = f"{next(iter(state))} is the first of its {len(state)} tensors"
    return UserError(f"{path} holds {holds}: {told}", expected=expected, remedy=remedy)


def with_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state with a counter of training steps for each batch norm; an absent one is zero.

    Files older than the counter lack it, and nothing but a running mean's momentum reads it.
    """
    means = [name for name in state if name.endswith(f".{_MEAN}")]
    counters = {name.removesuffix(_MEAN) + _COUNTER: torch.tensor(0) for name in means}
    return {**counters, **state}


def write_state_dict(
    path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> Path:
    """Write tensors by name as ``.safetensors``, the whole file or none, and return its path."""
    with atomic_path(path) as temporary:
        whole = {name: tensor.contiguous() for name, tensor in state.items()}
        save_file(whole, temporary, metadata=metadata)
    return path


@dataclass(frozen=True)
class KeyReport:
    """How the names and shapes of a state fit a network; made of shapes alone, no value is read.

    Attributes:
        matched: Names in both, of one shape.
        missing: Names that only the network has.
        unexpected: Names that only the state has.
        mismatched: ``{name: (shape in the state, shape in the network)}``.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def fits(self) -> bool:
        """Return whether every name is in both, with one shape."""
        return not (self.missing or self.unexpected or self.mismatched)

    @property
    def problems(self) -> list[str]:
        """Return one line for each way in which they differ; none where all fits."""
        shapes = [
            f"{name} {found} instead of {expected}"
            for name, (found, expected) in self.mismatched.items()
        ]
        groups = {
            "missing": self.missing,
            "unknown": self.unexpected,
            "of another shape": shapes,
        }
        return [
            f"{len(names)} {kind}: {listed(names, _SHOWN)}"
            for kind, names in groups.items()
            if names
        ]

    def lines(self, what: str) -> list[str]:
        """Return the report for people: a line of counts about ``what``, and the problems."""
        counts = (
            f"{what}: {len(self.matched)} tensors matched, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.mismatched)} of another shape"
        )
        return [counts, *(f"  {problem}" for problem in self.problems)]


def compare_keys(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> KeyReport:
    """Hold a state against a network, name by name.

    Args:
        expected: The network's ``state_dict()``, on the device ``meta`` as well.
        state: What a file holds, under the network's names.
    """
    both = [name for name in expected if name in state]
    mismatched = {
        name: (tuple(state[name].shape), tuple(expected[name].shape))
        for name in both
        if state[name].shape != expected[name].shape
    }
    return KeyReport(
        matched=[name for name in both if name not in mismatched],
        missing=[name for name in expected if name not in state],
        unexpected=[name for name in state if name not in expected],
        mismatched=mismatched,
    )


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
