"""A manifest read to its end: every bad line is a finding, every good one a case."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from voxella.case import MANIFEST, Case, Manifest
from voxella.check.catalogue import found
from voxella.check.finding import Finding
from voxella.errors import UserError

__all__ = ["read_leniently", "relations"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


def read_leniently(folder: Path) -> tuple[Manifest, list[Finding]]:
    """Return the cases that can be read, in file order, and what is wrong with the manifest.

    Of cases with one id the first is kept. Everything that :meth:`Manifest.read` refuses is an
    error here.

    Raises:
        UserError: There is no manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise UserError(
            f"no data set here: {path} does not exist",
            remedy="voxella import NAME SOURCE --out DATASET   (NAME: see voxella plugins)",
        )
    cases: list[Case] = []
    findings: list[Finding] = []
    seen: set[str] = set()
    for number, line in enumerate(_lines(path.read_bytes()), start=1):
        if not line.strip():
            continue
        entry = _parsed(line)
        if entry is None:
            message = f"line {number} is no JSON object in UTF-8"
            findings.append(found("manifest.line", message))
            continue
        case = _case(entry, number, findings)
        if case is not None and case.id in seen:
            message = f"line {number} has the id of a line above it"
            findings.append(found("manifest.duplicate-id", message, case=case.id))
        elif case is not None:
            seen.add(case.id)
            cases.append(case)
    if not cases:
        findings.append(found("manifest.empty", f"no case can be read from {MANIFEST}"))
    return Manifest(Path(folder), cases), [*findings, *relations(cases)]


def relations(cases: Iterable[Case]) -> Iterator[Finding]:
    """Name paths that leave the data set, and all cases of patients who stand in two splits."""
    cases = list(cases)
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.patient, set()).add(case.split)
        yield from _paths(case)
    for case in cases:
        if len(splits[case.patient]) > 1:
            # The patient is not named: some hospitals' numbers identify.
            others = ", ".join(sorted(splits[case.patient] - {case.split}))
            message = f"in {case.split}, and its patient has other cases in {others}"
            yield found("split.patient", message, case=case.id)


def _lines(data: bytes) -> Iterator[str]:
    """Yield lines as :meth:`Manifest.read` sees them, also where some are not UTF-8."""
    try:
        yield from data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        yield from (line.decode("utf-8", "surrogateescape") for line in data.split(b"\n"))


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        line.encode("utf-8")
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _case(entry: dict[str, Any], number: int, findings: list[Finding]) -> Case | None:
    try:
        return Case.model_validate(entry)
    except ValidationError as error:
        given = entry.get("id")
        case = given if isinstance(given, str) and _ID.fullmatch(given) else None
        for item in error.errors(include_input=False, include_url=False):
            # Only the field's own name: what stands in a wrong place may be anything.
            name = str(item["loc"][0])
            known = name if name in Case.model_fields else "a field that no case has"
            message = f"line {number}: {known}: {item['msg']}"
            findings.append(found("manifest.field", message, case=case))
    return None


def _paths(case: Case) -> Iterator[Finding]:
    named = {**case.images, "report": case.report, "truth": case.truth}
    for where, relative in named.items():
        if relative is None or os.path.isabs(relative):
            continue
        if ".." in Path(relative).parts:
            yield found("manifest.path", "its path has '..' in it", case=case.id, where=where)
