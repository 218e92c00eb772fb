"""A line before the seconds in which libraries are loaded and nothing else can be said."""

from __future__ import annotations

import sys

from voxella.ranks import Ranks

__all__ = ["print_loading"]

# Module whose loading is waited for -> what is said to be loaded.
_TOLD = {"torch": "torch, MONAI and others", "numpy": "NumPy and others"}


def print_loading(verb: str, slowest: str = "torch") -> None:
    """Say that a command loads its libraries, unless they are loaded or another process says so.

    Args:
        verb: Of the command.
        slowest: The largest of them.
    """
    if slowest not in sys.modules and Ranks.from_environment().is_main:
        line = f"voxella {verb}: loading {_TOLD[slowest]} ..."
        print(line, file=sys.stderr, flush=True)
