"""A manifest of JSON lines: read whole, every bad line named."""

from __future__ import annotations

import codecs
from pathlib import Path

from voxella.case.faults import Fault, case_of, relations
from voxella.case.model import Case
from voxella.limits import TEXT_BYTES
from voxella.plain_json import parse_json

__all__ = ["MANIFEST", "read_lines"]

MANIFEST = "manifest.jsonl"


def read_lines(path: Path) -> tuple[list[Case], list[Fault]]:
    """Return the cases that can be read, in file order, and all that is wrong with the manifest.

    Of cases with one id the first is kept.

    Raises:
        UserError: It is longer than the limit.
    """
    cases: dict[str, Case] = {}
    faults: list[Fault] = []
    # A mark at the beginning is an editor's. Not splitlines(): JSON may hold other characters that
    # it takes for line ends.
    lines = TEXT_BYTES.read(path).removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        case = _case(line, number, faults)
        if case is not None and case.id in cases:
            faults.append(Fault("manifest.duplicate-id", "its id is duplicated", number, case.id))
        elif case is not None:
            cases[case.id] = case
    return list(cases.values()), [*faults, *relations(cases.values())]


def _case(line: bytes, number: int, faults: list[Fault]) -> Case | None:
    try:
        entry = parse_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        # The exception itself carries the file's bytes.
        faults.append(Fault("manifest.line", f"is not UTF-8 (byte {error.start})", number))
        return None
    except ValueError as error:
        faults.append(Fault("manifest.line", f"not a JSON object: {error}", number))
        return None
    if not isinstance(entry, dict):
        faults.append(Fault("manifest.line", "not a JSON object", number))
        return None
    return case_of(entry, number, faults)
