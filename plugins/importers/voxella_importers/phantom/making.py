"""What a procedural importer makes: in processes, once, and again only where it is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol, TypeVar

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.machine import raise_if_machine
from voxella.workspace.pool import process_pool

__all__ = ["is_whole", "made"]

_Settings = TypeVar("_Settings")


class _Truth(Protocol):
    @property
    def settings_sha256(self) -> str: ...

    @property
    def files(self) -> dict[str, str]: ...


def made(
    make: Callable[[_Settings, int, Path], int],
    settings: _Settings,
    missing: Sequence[int],
    out: Path,
    *,
    workers: int,
    importer: str,
    what: str,
) -> Iterator[int]:
    """Make what is missing, yielding each number when its files are there.

    Args:
        make: Writes one, and returns its number.
        settings: Its first argument.
        missing: Numbers.
        out: The data set.
        workers: Processes; below 2: none but this.
        importer: Its name, for messages.
        what: Is made, in words.

    Raises:
        UserError: A process was stopped from outside.
    """
    if workers <= 1:
        for index in missing:
            yield make(settings, index, out)
        return
    with process_pool(workers) as pool:
        futures = [pool.submit(make, settings, index, out) for index in missing]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"importer {importer}: one of {workers} processes was stopped from outside",
                remedy=f"run the same again with workers: 1; finished {what} are kept",
            ) from error


def is_whole(read: Callable[[Path], _Truth], path: Path, out: Path, settings_sha256: str) -> bool:
    """Return whether what a truth tells of is there, made from the same settings and unharmed.

    Args:
        read: Reads the truth.
        path: Its file.
        out: The data set.
        settings_sha256: Of the settings that decide its files.
    """
    try:
        truth = read(path)
        if truth.settings_sha256 != settings_sha256:
            return False
        return all(sha256_file(out / name) == known for name, known in truth.files.items())
    except (UserError, FileNotFoundError) as error:
        raise_if_machine(error)
        return False
