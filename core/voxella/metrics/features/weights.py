"""A released network's weights from a local file, all of them or none."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.weights import compare_keys, read_state_dict, with_counters

__all__ = ["load_released", "read_released"]

# Heads of the released networks; the features end before them.
_HEADS = ("fc.", "conv_seg.")


def load_released(module: nn.Module, path: Path, *, what: str) -> str:
    """Load ``path`` into ``module`` and return the file's SHA-256. Runs no code the file may hold.

    Args:
        module: The network without a head.
        path: See :func:`voxella.weights.read_state_dict`.
        what: Which network it is, for messages.

    Raises:
        UserError: The file is missing, unreadable, or holds another network; what differs is said.
    """
    path = Path(path)
    state = read_released(module, path, what=what)
    module.load_state_dict(state)
    return sha256_file(path)


def read_released(module: nn.Module, path: Path, *, what: str) -> dict[str, Tensor]:
    """Return the file's tensors that make ``module``; arguments and errors as above.

    Args:
        module: The network without a head, on any device, ``meta`` as well.
        path: The file.
        what: Which network it is, for messages.
    """
    remedy = "download them where there is a network, and name the file here"
    found = read_state_dict(path, what=what, remedy=remedy)
    body = {name: tensor for name, tensor in found.items() if not name.startswith(_HEADS)}
    state = with_counters(body)
    problems = compare_keys(module.state_dict(), state).problems
    if problems:
        raise UserError(
            f"{path} does not hold {what}:\n  " + "\n  ".join(problems),
            remedy="name the file of that very release",
        )
    return state
