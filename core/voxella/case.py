"""Case and manifest: what every importer writes and every stage reads."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo

from voxella.case_fields import GUARDED, conditions_problem, field_problem
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.limits import TEXT_BYTES
from voxella.plain_json import parse_json
from voxella.wording import shown_path

__all__ = [
    "MANIFEST",
    "Case",
    "ConditionValue",
    "Fault",
    "Manifest",
    "Split",
    "read_cases",
    "relations",
]

MANIFEST = "manifest.jsonl"
# A number or a word; None where it is not known.
ConditionValue = float | str | None
Split = Literal["train", "val", "test"]
_LONGEST_ID = 128
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


class Case(BaseModel):
    """One study. Paths are relative to the data set's folder. Report TEXT is never in here.

    Attributes:
        id: Unique in the data set; letters, digits, ``_ - .`` only, for it names files.
        patient: Cases of one patient always share a split.
        images: File by sequence name (``t2w``, ``adc``, ``hbv``, ...).
        report: File that holds the report's text (UTF-8), or None when there is no report.
        report_sha256: Hash of the report file's bytes.
        label: Class name (one of ``recipe.data.classes``), or None when unknown.
        label_source: Where the label comes from: ``pirads``, ``isup``, ``table``, ``phantom``...
        truth: File beside the case that holds a phantom's known facts, or None.
        conditions: What a model may be conditioned on, by name: numbers (age, PSA) and words
            (scanner); None, or absent, where it is not known.
        extra: Anything else that an importer wants kept; never free text.
    """

    # An exception's words may go anywhere; what stands in a wrong field may be a report.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=_LONGEST_ID)
    patient: str
    images: dict[str, str]
    report: str | None = None
    report_sha256: str | None = None
    label: str | None = None
    label_source: str | None = None
    split: Split = "train"
    truth: str | None = None
    # Left out where there is none: manifests and hashes from before are those without it.
    conditions: dict[str, ConditionValue] = Field(
        default_factory=dict, exclude_if=lambda conditions: not conditions
    )
    extra: dict[str, Any] = Field(default_factory=dict)

    @field_validator("conditions", mode="before")
    @classmethod
    def _numbers_and_words(cls, value: Any) -> Any:  # noqa: ANN401 - any field
        if (why := conditions_problem(value)) is not None:
            raise ValueError(why)
        return value

    @field_validator(*GUARDED)
    @classmethod
    def _no_sentence(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - any field
        if (why := field_problem(str(info.field_name), value)) is not None:
            raise ValueError(f"{why}: free text is not kept in a manifest")
        return value


class Manifest:
    """The cases of one data set folder, in file order.

    Raises:
        UserError: From :meth:`read`, naming every bad line at once.
    """

    def __init__(self, folder: Path, cases: Iterable[Case]) -> None:
        self.folder = Path(folder)
        self.cases = list(cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def split(self, *names: str) -> list[Case]:
        """Return the cases of the named splits, in file order."""
        return [case for case in self.cases if case.split in names]

    def image_path(self, case: Case, sequence: str) -> Path:
        """Return the absolute path of one sequence of a case."""
        return self.folder / case.images[sequence]

    def read_report(self, case: Case) -> str:
        """Return the report's text, empty when the case has none. Handle it as patient data."""
        if case.report is None:
            return ""
        return TEXT_BYTES.read(self.folder / case.report).decode("utf-8-sig")

    def write(self) -> Path:
        """Write ``manifest.jsonl`` atomically and return its path."""
        lines = [case.model_dump_json(exclude_none=True) for case in self.cases]
        return write_text_atomic(self.folder / MANIFEST, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.jsonl``.

        Raises:
            UserError: There is none, or anything is wrong with it: all of that.
        """
        path = Path(folder) / MANIFEST
        cases, faults = read_cases(Path(folder))
        if faults:
            raise UserError(
                "\n".join(fault.told(path) for fault in faults),
                remedy="mend these lines, or import again; voxella check tells more",
            )
        return cls(Path(folder), cases)


@dataclass(frozen=True)
class Fault:
    """Something wrong with a manifest; what is said never quotes it.

    Attributes:
        code: Its kind, of :data:`voxella.check.catalogue.CATALOGUE`.
        message: What was found.
        line: Where, from 1; None for what lies between cases.
        case: Id of the case, where there is a sound one.
        where: The image or field, of a path.
    """

    code: str
    message: str
    line: int | None = None
    case: str | None = None
    where: str | None = None

    def told(self, path: Path) -> str:
        """Return file, line and what was found."""
        line = "" if self.line is None else f":{self.line}"
        case = "" if self.case is None else f" case {self.case}:"
        return f"{path}{line}:{case} {self.message}"


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


def relations(cases: Iterable[Case]) -> Iterator[Fault]:
    """Name paths that leave the data set, and all cases of patients who stand in two splits."""
    cases = list(cases)
    splits: dict[str, set[str]] = {}
    for case in cases:
        splits.setdefault(case.patient, set()).add(case.split)
        yield from _paths(case)
    for case in cases:
        if others := splits[case.patient] - {case.split}:
            # The patient is not named: some hospitals' numbers identify.
            named = ", ".join(sorted(others))
            message = f"in {case.split}, and its patient has other cases in {named}"
            yield Fault("split.patient", message, case=case.id)


def _paths(case: Case) -> Iterator[Fault]:
    named = {**case.images, "report": case.report, "truth": case.truth}
    for where, relative in named.items():
        if relative is None or os.path.isabs(relative):
            continue
        if ".." in Path(relative).parts:
            message = "its path has '..' in it"
            yield Fault("manifest.path", message, case=case.id, where=where)
