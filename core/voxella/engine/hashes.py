"""Content hashes of many files, each read by one process of the job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.progress import Steps
from voxella.ranks import Ranks

__all__ = ["shared_hashes"]


def shared_hashes(
    paths: Iterable[Path], ranks: Ranks | None = None, *, what: str = "hash volumes"
) -> dict[Path, str]:
    """Return the SHA-256 of each file; collective unless ``ranks`` is None.

    Args:
        paths: The same on every process, in the same order.
        ranks: Which share is this process's; None: it reads all files, alone.
        what: What progress is told as.

    Raises:
        UserError: Files cannot be read: all of them, on every process.
    """
    ordered = list(dict.fromkeys(paths))
    mine = range(len(ordered)) if ranks is None else ranks.share(len(ordered))
    own: dict[Path, str] = {}
    problems: list[str] = []
    with Steps(what, len(mine), quiet=ranks is not None and not ranks.is_main) as steps:
        for index in mine:
            try:
                own[ordered[index]] = sha256_file(ordered[index])
            except OSError as error:
                problems.append(f"{ordered[index]}: cannot be read: {error.strerror}")
            steps.advance()
    parts = [(own, problems)] if ranks is None else all_gather_object((own, problems))
    if everything := [line for _, lines in parts for line in lines]:
        raise UserError("\n".join(everything))
    return {path: digest for found, _ in parts for path, digest in found.items()}
