"""Case and manifest: what every importer writes and every stage reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxella.errors import UserError
from voxella.files import write_text_atomic

__all__ = ["MANIFEST", "Case", "Manifest", "Split"]

MANIFEST = "manifest.jsonl"
Split = Literal["train", "val", "test"]


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
        extra: Anything an importer wants kept (scanner, site, age); never free text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=128)
    patient: str
    images: dict[str, str]
    report: str | None = None
    report_sha256: str | None = None
    label: str | None = None
    label_source: str | None = None
    split: Split = "train"
    truth: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


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
        return (self.folder / case.report).read_text(encoding="utf-8-sig")

    def write(self) -> Path:
        """Write ``manifest.jsonl`` atomically and return its path."""
        lines = [case.model_dump_json(exclude_none=True) for case in self.cases]
        return write_text_atomic(self.folder / MANIFEST, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.jsonl``, checking ids, patients' splits and paths' form."""
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise UserError(
                f"no data set here: {path} does not exist",
                remedy="voxella import NAME SOURCE --out DATASET   (NAME: see voxella plugins)",
            )
        try:
            # Not splitlines(): JSON may hold other characters that it takes for line ends. A mark
            # at the beginning is an editor's.
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError as error:
            # The exception itself carries the file's bytes.
            raise UserError(
                f"{path} is not UTF-8 (byte {error.start})", remedy="import the data set again"
            ) from None
        cases: list[Case] = []
        problems: list[str] = []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                cases.append(Case.model_validate(json.loads(line)))
            except json.JSONDecodeError:
                problems.append(f"{path}:{number}: not a JSON object")
            except ValidationError as error:
                for item in error.errors(include_input=False, include_url=False):
                    where = ".".join(str(part) for part in item["loc"])
                    problems.append(f"{path}:{number}: {where}: {item['msg']}")
        problems += _relations(cases, path)
        if problems:
            raise UserError("\n".join(problems), remedy="mend these lines, or import again")
        return cls(Path(folder), cases)


def _relations(cases: list[Case], path: Path) -> list[str]:
    """Problems between cases: an id used twice, a patient in two splits, a path that escapes."""
    problems: list[str] = []
    seen: set[str] = set()
    split_of: dict[str, str] = {}
    for case in cases:
        if case.id in seen:
            problems.append(f"{path}: case id {case.id} stands twice")
        seen.add(case.id)
        if split_of.setdefault(case.patient, case.split) != case.split:
            problems.append(
                f"{path}: patient of case {case.id} is in {split_of[case.patient]} and {case.split}"
            )
        for relative in [*case.images.values(), case.report, case.truth]:
            if (
                relative is not None
                and ".." in Path(relative).parts
                and not os.path.isabs(relative)
            ):
                problems.append(f"{path}: case {case.id}: a path leaves the data set folder")
    return problems
