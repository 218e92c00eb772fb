"""A manifest of JSON lines: read whole, every bad line named."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from pydantic import ValidationError

from voxella.case.faults import Fault, relations
from voxella.case.model import LONGEST_ID, Case
from voxella.errors import UserError
from voxella.limits import TEXT_BYTES
from voxella.plain_json import parse_json
from voxella.wording import shown_path

__all__ = ["MANIFEST", "read_cases"]

MANIFEST = "manifest.jsonl"
_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.\-]{{0,{LONGEST_ID - 1}}}")


def read_cases(folder: Path) -> tuple[list[Case], list[Fault]]:
    """Return the cases that can be read, in file order, and all that is wrong with the manifest.

    Of cases with one id the first is kept.

    Raises:
        UserError: There is no manifest, or it is longer than the limit.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"no data set here: {shown_path(path)} does not exist",
            remedy="voxella import NAME SOURCE --out DATASET   (NAME: see voxella plugins)",
        )
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
            faults.append(Fault("manifest.duplicate-id", "its id stands twice", number, case.id))
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
    try:
        return Case.model_validate(entry)
    except ValidationError as error:
        given = entry.get("id")
        sound = given if isinstance(given, str) and _ID.fullmatch(given) else None
        for item in error.errors(include_input=False, include_url=False):
            # Only the field's own name: what stands in a wrong place may be anything.
            name = str(item["loc"][0])
            known = name if name in Case.model_fields else "a field that no case has"
            message = str(item["msg"]).removeprefix("Value error, ")
            faults.append(Fault("manifest.field", f"{known}: {message}", number, sound))
    return None
