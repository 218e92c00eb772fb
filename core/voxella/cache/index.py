"""The caches' ``index.json``: reading it, and saying what is missing from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from voxella.errors import UserError

__all__ = ["ENCODE", "FORMAT", "INDEX", "listed", "read_index", "require_known"]

INDEX = "index.json"
FORMAT = 2
ENCODE = "voxella encode RECIPE"
_LISTED = 50


def read_index(folder: Path, what: str) -> dict[str, Any]:
    """Read a cache's index.

    Args:
        folder: The cache's folder.
        what: What it caches, for messages.

    Raises:
        UserError: The index is absent, unreadable, or of another version of the format.
    """
    path = Path(folder) / INDEX
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {what} here: {path} does not exist", remedy=ENCODE) from None
    except json.JSONDecodeError:
        raise UserError(f"{path} is damaged", remedy=f"delete {folder}, then {ENCODE}") from None
    if index.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {index.get('format')}; this version reads {FORMAT}",
            remedy=f"delete {folder}, then {ENCODE}",
        )
    return index


def listed(ids: Iterable[str]) -> str:
    """Return ids for a message, the first fifty of them by name."""
    names = list(ids)
    shown = ", ".join(names[:_LISTED])
    more = len(names) - _LISTED
    return shown if more <= 0 else f"{shown} and {more} more"


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
