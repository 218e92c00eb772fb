"""The ``dicom`` importer's arguments, checked before a file is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voxella.importers.dicom_keep import keep_problems
from voxella.importers.dicom_rules import KeyedBy, SeriesRule, rules_for
from voxella.quoting import quoted
from voxella.texts.encodings import encoding_problem

__all__ = ["COLUMNS", "DicomSettings"]

# Our names of the label table's columns.
COLUMNS = ("id", "label")


@dataclass(frozen=True)
class DicomSettings:
    """The builder's arguments, see :func:`voxella.importers.dicom.dicom`."""

    source: Path
    sequences: tuple[str, ...] | None = None
    given_rules: Mapping[str, SeriesRule] = field(default_factory=dict)
    keep: tuple[str, ...] = ()
    key_file: Path | None = None
    keyed_by: KeyedBy = "accession"
    reports: Path | None = None
    reports_map: Path | None = None
    labels: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    label_names: Mapping[str, str] = field(default_factory=dict)
    label_source: str = "table"
    classes: tuple[str, ...] = ("negative", "positive")
    skip_bad: bool = False
    show_paths: bool = False
    encoding: str | None = None
    visible_only: bool = False

    @property
    def rules(self) -> dict[str, SeriesRule]:
        """Return the rule of each wanted sequence, in order."""
        return rules_for(self.sequences, self.given_rules)[0]

    def column(self, field: str) -> str:
        """Return the label table's name for one of our columns."""
        return self.columns.get(field, field)

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        found = [*rules_for(self.sequences, self.given_rules)[1], *keep_problems(self.keep)]
        found += [
            f"columns: {quoted(name)} is none of {', '.join(COLUMNS)}"
            for name in self.columns
            if name not in COLUMNS
        ]
        found += [
            f"label_names: {quoted(value)} is none of the classes {', '.join(self.classes)}"
            for value in dict.fromkeys(self.label_names.values())
            if value not in self.classes
        ]
        return found + [p for p in (encoding_problem(self.encoding),) if p]
