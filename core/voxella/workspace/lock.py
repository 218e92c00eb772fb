"""One command at a time in a folder: the second refuses and names the first.

``.lock`` in the folder says who holds it and is locked by the operating system for as long as that
process lives, so nothing is left behind by a kill. Some network file systems lock within one host
alone, or not at all; there the file's time, renewed while its holder lives, tells whether it does.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.files import make_folder, sweep
from voxella.machine import naming
from voxella.plain_json import json_or_none
from voxella.process import ProcessMark
from voxella.provenance import command_line
from voxella.ranks import Ranks

__all__ = ["LOCK", "holding"]

LOCK = ".lock"
_RENEWED_SECONDS = 15.0
# A holder on another host that has not renewed its file for so long has ended.
_DEAD_SECONDS = 90.0
# A killed command's worker processes may live on for a moment.
_PATIENCE_SECONDS = 3.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "bcachefs"}
)
# Nothing can be written there, or no folder can be: the command itself will tell.
_REFUSED = {
    *(errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR),
}
# Held by this process: a study holds what its recipes ask for again.
_held: set[Path] = set()


@contextmanager
def holding(*folders: Path, name: str = LOCK) -> Iterator[None]:
    """Hold folders against other commands, and sweep what killed ones have left half-written.

    The first process of a job holds them for all. A folder that cannot be written is not held:
    nothing can be changed there.

    Args:
        folders: Made where they are absent.
        name: Of the file; another name holds against other things.

    Raises:
        UserError: Another command works in one of them; says which, and since when.
    """
    with ExitStack() as stack:
        if Ranks.from_environment().is_main:
            for folder in dict.fromkeys(Path(os.path.abspath(folder)) for folder in folders):
                stack.enter_context(_held_one(folder / name))
        yield


@contextmanager
def _held_one(path: Path) -> Iterator[None]:
    if path in _held:
        yield
        return
    made = not path.parent.exists()
    handle = _taken(path)
    if handle is None:
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_renew, args=(handle, ended), daemon=True).start()
    _held.add(path)
    try:
        sweep(path.parent)
        yield
    finally:
        _held.discard(path)
        ended.set()
        # While it is locked: whoever waits for it sees that the name is gone, and takes a new one.
        path.unlink(missing_ok=True)
        os.close(handle)
        if made:
            with suppress(OSError):  # it holds something by now
                path.parent.rmdir()


def _taken(path: Path) -> int | None:
    """Return the locked file's handle; None where nothing can be written."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        handle = _opened(path, until)
        if handle is None:
            return None
        locked = _lock(handle)
        if not _is(path, handle):
            os.close(handle)  # its holder has just ended
            continue
        if locked is not False and _is_free(handle, locked=locked is True):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(_own(), indent=2).encode(), 0)
            return handle
        holder = _holder(handle)
        mark = ProcessMark.parse(str(holder.get("process", "")))
        os.close(handle)
        # Nothing in it yet, or held by what a dead process has started: it will soon be clear.
        if (mark is None or mark.is_gone()) and time.monotonic() < until:
            time.sleep(0.05)
            continue
        raise _in_use(path, holder)


def _opened(path: Path, until: float) -> int | None:
    while True:
        try:
            with naming(path):
                make_folder(path.parent)
                return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            # Another has just ended, and taken the folder with it that it had made.
            if time.monotonic() > until:
                raise
        except OSError as error:
            if error.errno in _REFUSED:
                return None
            raise


def _lock(handle: int) -> bool | None:
    """Lock a file; False: another has it. None: this file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_free(handle: int, *, locked: bool) -> bool:
    """Return whether nobody holds a file, whose lock may say so of this host alone."""
    mark = ProcessMark.parse(str(_holder(handle).get("process", "")))
    if mark is None:
        return True
    gone = mark.is_gone()
    if gone is not None:
        # Where this host's processes are seen and locks work, the lock has the last word.
        return locked or gone
    return _age_seconds(handle) > _DEAD_SECONDS or (locked and _is_local(handle))


def _age_seconds(handle: int) -> float:
    """Return when a file was renewed last, by the clock of the disk that it lies on."""
    then = os.fstat(handle).st_mtime
    os.utime(handle)
    now = os.fstat(handle).st_mtime
    os.utime(handle, (then, then))
    return now - then


def _is_local(handle: int) -> bool:
    """Return whether a file lies on a disk of this machine, where locks are everybody's."""
    device = os.fstat(handle).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        rows = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    kinds = [row.split(" - ")[1].split()[0] for row in rows if row.split()[2] == number]
    return any(kind in _LOCAL for kind in kinds)


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _own() -> dict[str, Any]:
    now = datetime.now(UTC).astimezone().isoformat(sep=" ", timespec="seconds")
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": now,
        "command": command_line() or "a script",
        "process": str(ProcessMark.own()),
    }


def _holder(handle: int) -> dict[str, Any]:
    """Return what a lock file says; nothing where it is being written, or is none of ours."""
    found = json_or_none(os.pread(handle, 2**16, 0))
    return found if isinstance(found, dict) else {}


def _renew(handle: int, ended: threading.Event) -> None:
    while not ended.wait(_RENEWED_SECONDS):
        try:
            os.utime(handle)
        except OSError:
            return


def _in_use(path: Path, holder: dict[str, Any]) -> UserError:
    who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
    return UserError(
        f"{path.parent} is in use by {who}, since {holder.get('since', 'just now')}: "
        f"{holder.get('command', 'an unknown command')}",
        remedy=f"wait until it has ended, or work elsewhere: another --out, or --workspace; if no "
        f"such process runs any more: rm {path}",
    )
