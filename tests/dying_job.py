"""A job whose process dies, in a module that another process can import."""

from __future__ import annotations

import os
import signal

from voxella.preparation.cases import Job

__all__ = ["DyingJob", "KilledJob"]


class DyingJob(Job):
    """Ends its process as a crash in a library would, without a word."""

    def run(self) -> None:
        if self.case.endswith("dies"):
            os._exit(9)


class KilledJob(Job):
    """Is killed as the system kills a process when memory runs out."""

    def run(self) -> None:
        if self.case.endswith("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
