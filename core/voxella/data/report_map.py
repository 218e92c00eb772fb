"""Reports beside images: files named after studies, or a map of identifiers to files.

Names of files and identifiers may be those of patients: messages count them and number entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from voxella.data.cells import located
from voxella.data.rows.read import read_table, read_text
from voxella.errors import UserError
from voxella.texts.ids import trimmed

__all__ = ["read_report_map", "reports_in"]

_OTHERS = (".pdf", ".rtf", ".doc", ".docx", ".odt", ".htm", ".html", ".xml", ".json", ".text")


def reports_in(folder: Path) -> tuple[list[Path], str | None]:
    """Return the ``.txt`` files of a folder, and what to say of other documents that lie there.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"reports: {folder} is no folder")
    # Windows and old systems write .TXT.
    suffixes = {path: path.suffix.lower() for path in sorted(folder.iterdir()) if path.is_file()}
    others = sum(suffix in _OTHERS for suffix in suffixes.values())
    note = f"reports: {others} files are no .txt and are not read; convert them to plain text"
    return [path for path, s in suffixes.items() if s == ".txt"], note if others else None


def read_report_map(
    path: Path,
    folder: Path | None,
    *,
    encoding: str | None = None,
    visible_only: bool = False,
) -> list[tuple[str, Path]]:
    """Read (identifier, file) from a JSON object or a table with the columns id and report.

    Args:
        path: The map.
        folder: What its file names are relative to; None: its own.
        encoding: Of a map that is not UTF-8 and has no byte-order mark.
        visible_only: Leave out the hidden rows of a workbook.

    Raises:
        UserError: It cannot be read, or identifiers are duplicated: by entry.
    """
    base = folder or path.parent
    if path.suffix.lower() == ".json":
        pairs = list(_object(path, encoding))
    else:
        names = ("id", "report")
        table = read_table(path, names, encoding=encoding, visible_only=visible_only)
        if not set(names) <= set(table.columns):
            raise UserError(f"{path}: the columns id and report are needed")
        pairs = [(trimmed(row.cells["id"]), trimmed(row.cells["report"])) for row in table.rows]
    first: dict[str, int] = {}
    problems = [
        f"{path}: the identifiers of entries {first[key]} and {number} are the same"
        for number, (key, _) in enumerate(pairs, start=1)
        if first.setdefault(key, number) != number
    ]
    if problems:
        raise UserError("\n".join(problems), remedy="leave one of each and import again")
    return [(key, located(base, name)) for key, name in pairs if key and name]


def _object(path: Path, encoding: str | None) -> Iterator[tuple[str, str]]:
    text, _ = read_text(path, encoding)
    try:
        # As pairs: of a key that is duplicated, the decoder would keep the last without a word.
        loaded = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a JSON file that can be read") from None
    wrong = UserError(f"{path}: not an object of file names", expected='{"10000_1000000": "a.txt"}')
    if not isinstance(loaded, list) or (not loaded and text.lstrip().startswith("[")):
        raise wrong
    for pair in loaded:
        if not isinstance(pair, tuple) or not isinstance(pair[1], str):
            raise wrong
        yield trimmed(pair[0]), trimmed(pair[1])
