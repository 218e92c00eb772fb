"""The released CCELLA code's JSON lists: an entry a case, one list to train on and one to test on.

An entry has the keys ``axt2`` (an image path), ``dataset``, ``folder`` (the case), ``pirads``
(``[1, 0]`` negative, ``[0, 1]`` positive), ``spacing`` (mm), ``text`` and ``text_isnull``. In the
lists called ``_merged``, ``text`` is the path of an array of 512 x 4096 token features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from voxella.case import Split
from voxella.data.rows.json import json_list
from voxella.data.rows.read import read_text
from voxella.errors import UserError

__all__ = ["KEYS", "Entry", "find_lists", "read_lists"]

_NAMES: tuple[Split, ...] = ("train", "val", "test")
_FEATURES = ".npy"
_LONGEST_CODE = 32

# The released lists' name of a sequence.
KEYS: Mapping[str, str] = {"t2w": "axt2", "adc": "adc", "hbv": "b1600"}


@dataclass(frozen=True)
class Entry:
    """One case as a list has it.

    Attributes:
        where: List and number, for messages.
        folder: What the released code knows the case by.
        split: The list's; None where it stands alone.
        paths: Image path by the list's key.
        positive: Its class; None where ``pirads`` is absent.
        text: The report; empty where there is none.
        is_null: Whether the list says that there is no report.
        features: File of precomputed token features, or None.
        features_null: Whether they are those of the empty report.
        dataset: Short name of where it comes from, or None.
        spacing_mm: Of the voxels, in the file's axis order, or None.
    """

    where: str
    folder: str
    split: Split | None
    paths: dict[str, str]
    positive: bool | None
    text: str = field(repr=False)
    is_null: bool
    features: Path | None
    features_null: bool
    dataset: str | None
    spacing_mm: tuple[float, ...] | None


def find_lists(source: Path) -> Path:
    """Return the folder that the lists lie in.

    Raises:
        UserError: There are none.
    """
    if source.is_file():
        return source.parent
    for folder in (source, source / "datasets"):
        if any(_pair(folder, name)[0].is_file() for name in _NAMES):
            return folder
    raise UserError(
        f"{source}: no train.json, test.json or train_merged.json there",
        remedy="give the folder of the lists, or one list",
    )


def read_lists(source: Path, encoding: str | None = None) -> list[Entry]:
    """Return the entries of all lists of a folder, or of one list.

    Args:
        source: The folder or the list.
        encoding: Of lists that are not UTF-8 and have no byte-order mark.

    Raises:
        UserError: There is no list, or entries are wrong: all of them, by list and number.
    """
    folder = find_lists(source)
    problems: list[str] = []
    entries: list[Entry] = []
    if source.is_file():
        entries = _read(source, None, {}, problems, encoding)
    else:
        for split in _NAMES:
            path, merged = _pair(folder, split)
            if path.is_file():
                features = _features_of(merged, problems, encoding) if merged != path else {}
                entries += _read(path, split, features, problems, encoding)
    first: dict[str, str] = {}
    for entry in entries:
        if entry.folder in first:
            problems.append(f"{entry.where}: its folder stands in {first[entry.folder]} already")
        first.setdefault(entry.folder, entry.where)
    if problems:
        raise UserError(
            "\n".join([f"{folder}: {len(problems)} problems in its lists", *problems]),
            remedy="fix the lists and import again; nothing was written",
        )
    return entries


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the list to read and the list with features; the latter serves where it is alone."""
    plain, merged = folder / f"{name}.json", folder / f"{name}_merged.json"
    return (plain if plain.is_file() else merged), merged


def _features_of(merged: Path, problems: list[str], encoding: str | None) -> dict[str, Entry]:
    if not merged.is_file():
        return {}
    entries = _read(merged, None, {}, problems, encoding)
    return {entry.folder: entry for entry in entries if entry.features is not None}


def _read(
    path: Path,
    split: Split | None,
    features: dict[str, Entry],
    problems: list[str],
    encoding: str | None,
) -> list[Entry]:
    text, _ = read_text(path, encoding)
    entries: list[Entry] = []
    for number, record in json_list(path, text):
        where = f"{path.name}, entry {number}"
        wrong = _wrong(record)
        problems += [f"{where}: {problem}" for problem in wrong]
        if not wrong:
            entries.append(_entry(record, where, path.parent, split, features))
    return entries


def _wrong(record: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    """Return what is wrong with an entry; no value of it is quoted, any may be a report."""
    if not isinstance(record, dict):
        return ["not an object"]
    found: list[str] = []
    if not isinstance(record.get("folder"), str) or not record["folder"].strip():
        found.append("folder is no text")
    if not isinstance(record.get("text") or "", str):
        found.append("text is no text")
    if record.get("text_isnull", 0) not in (0, 1):
        found.append("text_isnull is neither 0 nor 1")
    if record.get("pirads") not in (None, [1, 0], [0, 1]):
        found.append("pirads is neither [1, 0] nor [0, 1]")
    if record.get("spacing") is not None and not _is_spacing(record["spacing"]):
        found.append("spacing is not three lengths in mm")
    if not _is_code(record.get("dataset") or ""):
        found.append(f"dataset is no name of up to {_LONGEST_CODE} characters")
    return found


def _is_spacing(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    if not isinstance(value, list) or len(value) != 3:
        return False
    numbers = [x for x in value if isinstance(x, int | float) and not isinstance(x, bool)]
    return len(numbers) == 3 and all(math.isfinite(x) and x > 0 for x in numbers)


def _is_code(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, str) and len(value) <= _LONGEST_CODE and value.isprintable()


def _entry(
    record: dict[str, Any], where: str, base: Path, split: Split | None, features: dict[str, Entry]
) -> Entry:
    folder = PurePosixPath(record["folder"].strip().replace("\\", "/")).as_posix()
    text = record.get("text") or ""
    own = _is_features(text)
    is_null = bool(record.get("text_isnull", 0))
    other = features.get(folder)
    pirads, spacing = record.get("pirads"), record.get("spacing")
    return Entry(
        where=where,
        folder=folder,
        split=split,
        paths={key: value for key, value in record.items() if isinstance(value, str)},
        positive=None if pirads is None else pirads == [0, 1],
        text="" if own or not text.strip() else text,
        is_null=is_null,
        features=base / text.strip() if own else None if other is None else other.features,
        features_null=is_null if own or other is None else other.features_null,
        dataset=record.get("dataset") or None,
        spacing_mm=None if spacing is None else tuple(float(step) for step in spacing),
    )


def _is_features(text: str) -> bool:
    return text.strip().endswith(_FEATURES) and "\n" not in text.strip()
