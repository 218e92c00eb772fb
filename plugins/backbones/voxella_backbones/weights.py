"""Weights from a local file, every parameter or none, by our names or another release's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.weights import compare_keys, read_state_dict

__all__ = ["Convert", "load_weights"]

Convert = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def load_weights(module: nn.Module, path: Path, convert: Convert | None = None) -> str:
    """Load ``path`` into ``module``, every parameter or none, and return the file's SHA-256.

    Args:
        module: The network.
        path: See :func:`voxella.weights.read_state_dict`.
        convert: From another release's names to ours; tried if the names do not fit as they are.

    Raises:
        UserError: If the file is missing, cannot be read, or holds another network; what differs
            is listed.
    """
    path = Path(path)
    remedy = "name an existing file under `weights`"
    state = read_state_dict(path, what="this network", remedy=remedy)
    expected = module.state_dict()
    problems = compare_keys(expected, state).problems
    if problems and convert is not None:
        converted = convert(state)
        # What differs is told in the names that more of the file's tensors have.
        if len(converted.keys() & expected.keys()) > len(state.keys() & expected.keys()):
            state, problems = converted, compare_keys(expected, converted).problems
    if problems:
        raise UserError(
            f"{path} does not hold the weights of this network:\n  " + "\n  ".join(problems),
            remedy="name the right file under `weights`, or set the sizes it was trained with",
        )
    module.load_state_dict(state)
    return sha256_file(path)
