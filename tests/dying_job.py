"""A job whose process dies, in a module that another process can import."""

from __future__ import annotations

import os

from voxella.stages.prepare_cases import Job

__all__ = ["DyingJob"]


class DyingJob(Job):
    """Ends its process as a crash in a library would, without a word."""

    def run(self) -> None:
        if self.case.endswith("dies"):
            os._exit(9)
