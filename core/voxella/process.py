"""Which process made something, and whether it still runs."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PARTIAL", "ProcessMark"]

# What is half-written has a name that begins so; the mark of its process follows.
PARTIAL = ".partial-"

# Field 22 of /proc/PID/stat, counted behind the name in brackets, which may hold blanks.
_START_FIELD = 19


@dataclass(frozen=True)
class ProcessMark:
    """A process, told from others of the same number.

    Attributes:
        space: Names the host and, where it has several, the space in which the number counts: two
            containers of one host both have a process 7.
        pid: Its number.
        started: When it began, in the kernel's ticks: numbers are given again. 0: not known.
    """

    space: str
    pid: int
    started: int

    @classmethod
    def own(cls) -> ProcessMark:
        """Return this process's mark."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        """Return the mark of a process of this host."""
        return cls(_space(), pid, _started(pid))

    @classmethod
    def parse(cls, text: str) -> ProcessMark | None:
        """Read what ``str`` gives; None where it is something else."""
        match text.split("."):
            case [space, pid, started] if pid.isdecimal() and started.isdecimal():
                return cls(space, int(pid), int(started))
        return None

    def __str__(self) -> str:
        return f"{self.space}.{self.pid}.{self.started}"

    def is_gone(self) -> bool | None:
        """Return whether the process has ended; None where that cannot be seen from here."""
        if self.space != _space():
            return None
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return True
        except PermissionError:
            pass  # it runs, and is another user's
        now = _started(self.pid)
        return self.started != 0 and now != 0 and now != self.started


def _space() -> str:
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{socket.gethostname()}\0{namespace}".encode()).hexdigest()[:8]


def _started(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(stat.rpartition(")")[2].split()[_START_FIELD])
    except (OSError, IndexError, ValueError):
        return 0
