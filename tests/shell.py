"""The user's shell, as a command that a test starts should find it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Set by an engine that has run in the tests' own process; its port is taken.
_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def environment(**more: str) -> dict[str, str]:
    """Return the environment with our commands on PATH and without a launcher's variables."""
    kept = {name: value for name, value in os.environ.items() if name not in _LAUNCH}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "OMP_NUM_THREADS": "1", **more}
