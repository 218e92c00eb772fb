"""Files and folders that are whole or absent: written under a temporary name, synced, renamed.

A rename may reach the disk before what it names, and a name before what it stands for. So the order
is: data, then the folder that holds it, then the name.

All are for their owner alone: images, reports, features of reports (a linear map gives most of the
words back), predictions and the models that have learnt from them are patient data.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voxella.errors import UserError
from voxella.machine import naming
from voxella.process import PARTIAL, ProcessMark

__all__ = [
    "append_line",
    "atomic_path",
    "make_folder",
    "own_folder",
    "owner_only",
    "publish_folder",
    "remove",
    "sweep",
    "write_json_atomic",
    "write_text_atomic",
]

# Another machine's process cannot be asked whether it runs. None writes one file for as long.
_FORSAKEN_SECONDS = 3600.0
_FILE, _FOLDER = 0o600, 0o700
_UMASK = 0o077


@contextmanager
def owner_only() -> Iterator[None]:
    """Keep others out of what libraries write meanwhile (TensorBoard, DeepSpeed), by the umask.

    A process has one umask: this is for a whole command, not for a part of a program.
    """
    before = os.umask(_UMASK)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path to write; move it to ``target``, whole and on the disk, when the block succeeds.

    The path has the target's own name, in a folder beside it that names this process: whatever else
    a library leaves there goes with it, and after a kill :func:`sweep` knows whose it was. The
    content is synced before the name, and the name before this returns, so neither a kill nor a
    crash of the machine leaves a file that is cut.

    Args:
        target: The final path; its folder is made.

    Raises:
        OSError: What the machine refused, with ``target`` as its file, whichever library wrote.
    """
    with naming(target):
        make_folder(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{ProcessMark.own()}.", dir=target.parent))
    temporary = folder / target.name
    try:
        with naming(target, beside=folder):
            yield temporary
            temporary.chmod(_FILE)  # libraries choose their own
            _sync(temporary)
            temporary.replace(target)
            _sync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish_folder(partial: Path, target: Path, *, marker: str, facts: Any) -> Path:  # noqa: ANN401 - any JSON value
    """Give a written folder its name, so that not even a host's crash leaves it there in part.

    Every file below is synced, then every folder, then the marker is written and synced, then the
    folder is renamed and its parent synced. Whoever sees the marker sees all that it vouches for.

    Args:
        partial: The folder as written, under a name that nobody reads.
        target: Its final path, on the same file system; what is there is replaced.
        marker: Name of the JSON file that says the folder is complete.
        facts: What the marker says.
    """
    below = sorted(partial.rglob("*"))
    with naming(target, beside=partial):
        for path in (path for path in below if path.is_file()):
            _sync(path)
        for path in (path for path in (*reversed(below), partial) if path.is_dir()):
            _sync(path)
        write_json_atomic(partial / marker, facts)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        _sync(target.parent)
    return target


def append_line(path: Path, line: str) -> None:
    """Add one line of UTF-8 to a file, on the disk when this returns; a kill may cut the last."""
    with naming(path), open(path, "a", encoding="utf-8", opener=_open_private) as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before the next, for their owner alone.

    A folder that is there keeps its permissions: whoever made it has chosen them.
    """
    absent = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(absent):
        path.mkdir(_FOLDER, exist_ok=True)
        _sync(path.parent)


def own_folder() -> Path:
    """Return a temporary folder on this host that nobody else can read or write.

    Raises:
        UserError: Somebody else has taken its name, or can enter it.
    """
    folder = Path(tempfile.gettempdir()) / f"voxella-{os.getuid()}"
    folder.mkdir(mode=_FOLDER, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UserError(
            f"{folder} is not this user's alone; what others could plant there would be used",
            remedy="export TMPDIR=FOLDER, one of your own on this host, and start again",
        )
    return folder


def sweep(folder: Path) -> int:
    """Remove what killed processes have left half-written in and below a folder; return how much.

    What a living process of this machine writes is left alone, and so is what another machine's may
    still be writing: whose has not changed for an hour.
    """
    swept = 0
    for here, folders, files in os.walk(folder):
        for name in [name for name in (*folders, *files) if name.startswith(PARTIAL)]:
            path = Path(here) / name
            if name in folders:
                folders.remove(name)
            if _is_left(path):
                remove(path)
                swept += 1
    return swept


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; absent is as good."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, _FILE)


def _is_left(partial: Path) -> bool:
    maker = ProcessMark.parse(partial.name.removeprefix(PARTIAL).rpartition(".")[0])
    gone = None if maker is None else maker.is_gone()
    if gone is not None:
        return gone
    try:
        newest = max(path.stat().st_mtime for path in (partial, *partial.rglob("*")))
    except OSError:
        return False  # it has just been moved to its place
    return time.time() - newest > _FORSAKEN_SECONDS


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems sync files alone.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_text_atomic(target: Path, text: str) -> Path:
    """Write UTF-8 text atomically and return ``target``."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def write_json_atomic(target: Path, value: Any) -> Path:  # noqa: ANN401 - any JSON value
    """Write ``value`` as indented JSON atomically and return ``target``."""
    return write_text_atomic(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
