"""What the machine refuses: disk, memory, open files. Never the fault of a case or of a file.

Libraries say the same in many ways: torch raises ``RuntimeError``, safetensors an error of its own,
nibabel and SimpleITK say "does not exist" of a file that could not be opened. Whoever catches
broadly asks :func:`raise_if_machine` first, so that a full disk is not taken for a bad case.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxella.errors import UserError
from voxella.process import PARTIAL
from voxella.wording import human_bytes

__all__ = ["as_mistake", "machine_fault", "naming", "raise_if_machine", "without_temporary"]

_SPACE = (
    "free some space; the same command continues; or write elsewhere: another --out, or --workspace"
)
_MEMORY = (
    "end other programs or give fewer --workers or smaller batches; the same command continues"
)
_FILES = "ulimit -n 4096 in this shell, or fewer --workers; the same command continues"
# errno -> what can be done; the rest of the machine's refusals are somebody's mistake, or ours.
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "ulimit -f unlimited in this shell; the same command continues",
    errno.EROFS: "write elsewhere: another --out, or --workspace",
    errno.EIO: "the disk or the way to it has failed (dmesg says more); when it is sound again, "
    "the same command continues",
    errno.ESTALE: "the folder's server has changed under it; mount it again, then the same command "
    "continues",
    errno.EMFILE: _FILES,
    errno.ENFILE: "the whole machine has too many files open; end other programs, then the same "
    "command continues",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "ulimit -u: no more processes or threads may be started; fewer --workers, then "
    "the same command continues",
}
_BY_RUST = re.compile(r"\(os error (\d+)\)")
_BY_WORDS = {os.strerror(number): number for number in _REMEDIES if number != errno.EAGAIN} | {
    "out of memory": errno.ENOMEM,
    "bad allocation": errno.ENOMEM,
    "bad_alloc": errno.ENOMEM,
    "can't start new thread": errno.EAGAIN,
}
# torch's writer knows that something went wrong, and not what. Its reader, over a damaged file,
# speaks of the same source file.
_TORCH_WRITER = ("PytorchStreamWriter", "unexpected pos")
# Only of a file that is written.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A disk with less than that free is taken to be full where a library does not say what it met.
_FULL_BYTES = 2**20


def machine_fault(error: BaseException, path: Path | None = None) -> OSError | None:
    """Return what the machine refused, as an ``OSError`` with number and file; None: nothing.

    Args:
        error: As raised; what it was raised from is looked at, too.
        path: The file that was being read or written, where that is known.
    """
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            break
        number = _number(seen)
        if number is not None:
            # A copy has two files, and the one that is read is named first.
            copied = getattr(seen, "filename2", None) if number in _WRITING else None
            file = copied or getattr(seen, "filename", None)
            return _fault(number, path if file is None else Path(os.fsdecode(file)))
        seen = seen.__cause__ or seen.__context__
    if path is None:
        return None
    if isinstance(error, UserError):
        return None
    writing = any(words in str(error) for words in _TORCH_WRITER)
    number = _asked(path, writing=writing)
    return None if number is None else _fault(number, path)


def raise_if_machine(error: BaseException, path: Path | None = None) -> None:
    """Raise what the machine refused; do nothing where ``error`` is something else.

    For the first line of every ``except`` that takes an error for a case's or a file's own.

    Raises:
        OSError: As :func:`machine_fault` returns it.
    """
    if (fault := machine_fault(error, path)) is not None:
        raise fault from None


@contextmanager
def naming(path: Path, *, beside: Path | None = None) -> Iterator[None]:
    """Name the file in whatever the machine refuses inside; one place for all that writes.

    Args:
        path: The file that is meant.
        beside: A temporary place that stands for it; nobody knows its name.

    Raises:
        OSError: With a number and a file.
    """
    try:
        yield
    except Exception as error:
        fault = machine_fault(error, path)
        if fault is None:
            raise
        temporary = beside is not None and str(fault.filename).startswith(str(beside))
        raise (_fault(fault.errno or 0, path) if temporary else fault) from None


def as_mistake(error: BaseException) -> UserError | None:
    """Return one message about what the machine refused: what, where, how much; None: nothing."""
    fault = machine_fault(error)
    if fault is None:
        return None
    number = fault.errno or 0
    where = "" if fault.filename is None else f": {without_temporary(fault.filename)}"
    much = _how_much(number, fault.filename)
    return UserError(f"{fault.strerror}{where}{much}", remedy=_REMEDIES[number])


def without_temporary(filename: str | bytes | int) -> str:
    """Return a path without temporary names, which nobody knows."""
    if isinstance(filename, int):
        return f"file {filename}"
    parts = Path(os.fsdecode(filename)).parts
    return str(Path(*[part for part in parts if not part.startswith(PARTIAL)]))


def _number(error: BaseException) -> int | None:
    """Return the number of a refusal; None where an error is none."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, UserError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _REMEDIES else None
    words = str(error)
    if (found := _BY_RUST.search(words)) is not None:
        return int(found[1]) if int(found[1]) in _REMEDIES else None
    return next((number for text, number in _BY_WORDS.items() if text in words), None)


def _asked(path: Path, *, writing: bool) -> int | None:
    """Ask the machine itself why a file could not be opened, or written on."""
    if writing:
        if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            return errno.EFBIG
        return errno.ENOSPC if shutil.disk_usage(_folder(path)).free < _FULL_BYTES else errno.EIO
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return error.errno if error.errno in _REMEDIES else None


def _folder(path: Path) -> Path:
    """Return the nearest folder that is there."""
    return next(p for p in (path, *path.absolute().parents) if p.is_dir())


def _fault(number: int, path: Path | None) -> OSError:
    strerror = os.strerror(number)
    return OSError(number, strerror) if path is None else OSError(number, strerror, str(path))


def _how_much(number: int, file: str | None) -> str:
    """Say how much of it there is, as far as the machine tells."""
    if number in (errno.ENOSPC, errno.EDQUOT) and file is not None:
        return _left_on_disk(Path(file))
    limits = {errno.EMFILE: resource.RLIMIT_NOFILE, errno.EFBIG: resource.RLIMIT_FSIZE}
    if number in limits:
        most = resource.getrlimit(limits[number])[0]
        told = human_bytes(most) if number == errno.EFBIG else f"{most} files"
        return f" (this process may {'write' if number == errno.EFBIG else 'open'} {told})"
    if number == errno.ENOMEM:
        return _left_of_memory()
    return ""


def _left_on_disk(path: Path) -> str:
    disk = os.statvfs(_folder(path))
    free, size = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    names = ", and names for no further file" if disk.f_files and not disk.f_favail else ""
    return f" (its disk has {human_bytes(free)} of {human_bytes(size)} free{names})"


def _left_of_memory() -> str:
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        return f" (this process may use {human_bytes(most)})"
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return ""
    return f" (the machine has {human_bytes(free * 1024)} left)"
