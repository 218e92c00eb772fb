"""A line before the seconds in which libraries are loaded and nothing else can be said."""

from __future__ import annotations

import sys

from voxella.ranks import Ranks

__all__ = ["tell_loading"]


def tell_loading(verb: str) -> None:
    """Say that a command loads its libraries, unless they are loaded or another process says so."""
    if "torch" not in sys.modules and Ranks.from_environment().is_main:
        print(f"voxella {verb}: loading torch, MONAI and others ...", file=sys.stderr, flush=True)
