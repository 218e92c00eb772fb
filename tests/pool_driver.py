"""Runs jobs that last for ever in three processes, for tests/test_stopping.py."""

from __future__ import annotations

import sys
import time

from voxella.stopping import Interrupted, raised
from voxella.workspace.pool import run_in_processes

if __name__ == "__main__":
    try:
        with raised():
            for _ in run_in_processes(time.sleep, [600.0] * 9, 3):
                pass
    except Interrupted as stop:
        code = 128 + stop.number
    sys.exit(code)
