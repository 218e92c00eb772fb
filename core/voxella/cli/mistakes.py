"""How a command ends on a mistake: told once, however many processes of a job make it.

Most mistakes (a recipe, a data set, a cache) are every process's. The first one tells them and
ends, whereupon the launcher ends the others; a process that is still there after some seconds has
met something of its own, and tells it with its number.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence

from voxella.errors import UserError
from voxella.machine import as_mistake, without_temporary
from voxella.ranks import Ranks
from voxella.terminal import complain
from voxella.wording import shown_path, without_sentences

__all__ = ["EXIT_MISTAKE", "from_file_system", "print_mistake"]

EXIT_MISTAKE = 2
# DeepSpeed's launcher looks for processes that have ended once a second.
_PATIENCE_SECONDS = 10.0
# What is refused because of a mistake; what the machine lacks is told by voxella.machine.
_REMEDIES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "see who may read and write there: ls -ld FOLDER; or write elsewhere: another --out",
    ),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
        "a file stands where a folder belongs, or the other way round: move it away, or write "
        "elsewhere: another --out",
    ),
    **dict.fromkeys(
        (errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ENODEV),
        "name a file or folder that can be there",
    ),
}
_LONGEST_NAME = 300


def print_mistake(problem: object, words: Sequence[str] = ()) -> None:
    """Print a mistake; on a process that is not the first, when the first has had its time.

    Args:
        problem: What is wrong.
        words: Of the command; what may be free text among them is not repeated.
    """
    told = without_sentences(str(problem), words)
    ranks = Ranks.from_environment()
    if ranks.is_main:
        complain(f"voxella: {told}")
        return
    # Ended while it waits, it has nothing to add.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(EXIT_MISTAKE))
    time.sleep(_PATIENCE_SECONDS)
    complain(f"voxella: process {ranks.rank}: {told}")


def from_file_system(error: Exception) -> UserError | None:
    """Return what the user can do about what was refused, or None: a fault of ours."""
    if (mistake := as_mistake(error)) is not None:
        return mistake
    remedy = _REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    if remedy is None or not isinstance(error, OSError):
        return None
    name = "" if error.filename is None else without_temporary(error.filename)
    # What is not there may be a sentence in the place of a path.
    name = shown_path(name) if name else ""
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}... ({len(name):,} characters)"
    where = f": {name}" if name else ""
    return UserError(f"{error.strerror}{where}", remedy=remedy)
