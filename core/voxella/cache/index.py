"""The caches' ``index.json``: reading it, and saying what is missing from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from voxella.cache.shard_reader import ENCODE
from voxella.errors import UserError
from voxella.wording import listed
from voxella.workspace.state import StateFile

__all__ = ["AGAIN", "ENCODE", "FORMAT", "INDEX", "read_index", "require_known"]

INDEX = "index.json"
FORMAT = 2
# What was encoded stands in the shards: they are joined anew.
AGAIN = f"rm {{path}}, then {ENCODE}: what is encoded is kept"


class _Any(TypedDict):
    format: int


_ANY: StateFile[dict[str, Any]] = StateFile(_Any, AGAIN)


def read_index(folder: Path, what: str, kind: StateFile[dict[str, Any]]) -> dict[str, Any]:
    """Read a cache's index.

    Args:
        folder: The cache's folder.
        what: What it caches, for messages.
        kind: The form of its index.

    Raises:
        UserError: The index is absent, unreadable, or of another version of the format.
    """
    path = Path(folder) / INDEX
    any_format = _ANY.read(path)
    if any_format is None:
        raise UserError(f"no {what} here: {path} does not exist", remedy=ENCODE)
    if any_format["format"] != FORMAT:
        raise UserError(
            f"{path} has format {any_format['format']}; this version reads {FORMAT}",
            remedy=f"delete {folder}, then {ENCODE}",
        )
    index = kind.read(path)
    assert index is not None, "it was there a moment ago"
    return index


def require_known(ids: Iterable[str], known: Collection[str], what: str) -> None:
    """Refuse to go on without a case.

    Args:
        ids: The cases needed.
        known: The cases of the cache; a set or a mapping.
        what: What a case lacks, and where.

    Raises:
        UserError: Cases are missing; lists them.
    """
    missing = [case_id for case_id in ids if case_id not in known]
    if missing:
        raise UserError(f"{len(missing)} cases have no {what}: {listed(missing)}", remedy=ENCODE)
