"""The ``table`` importer's arguments, checked before the table is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxella.texts.encodings import encoding_problem
from voxella.wording import named_list, quoted, why_no_code

__all__ = ["FIELDS", "TableSettings"]

# Our names of columns that are no images.
FIELDS = ("id", "patient", "split", "label", "label_source", "report", "report_file")


@dataclass(frozen=True)
class TableSettings:
    """The builder's arguments, see :func:`voxella_importers.table.plugin.table`."""

    source: Path
    images: Path
    reports: Path
    columns: dict[str, str]
    sequences: tuple[str, ...]
    classes: tuple[str, ...]
    labels: dict[str, str]
    label_source: str
    conditions: dict[str, str]
    extra: tuple[str, ...]
    delimiter: str | None
    sheet: str | None
    encoding: str | None
    visible_only: bool

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        legal = [*FIELDS, *self.sequences]
        found = [
            f"columns: {quoted(key)} is none of {named_list(legal)}"
            for key in self.columns
            if key not in legal
        ]
        found += [
            f"labels: {quoted(value)} is none of the classes {named_list(self.classes)}"
            for value in dict.fromkeys(self.labels.values())
            if value not in self.classes
        ]
        kept = {
            "classes": self.classes,
            "sequences": self.sequences,
            "label_source": (self.label_source,),
            "extra": self.extra,
            "conditions": (*self.conditions, *self.conditions.values()),
        }
        found += [
            f"{argument}: a name that {why}"
            for argument, names in kept.items()
            for name in names
            if name and (why := why_no_code(name)) is not None
        ]
        taken = [name for name in self.sequences if name in FIELDS]
        found += [f"sequences: {quoted(name)} is a column of another meaning" for name in taken]
        found += [problem for problem in (encoding_problem(self.encoding),) if problem]
        return found if self.sequences else [*found, "sequences: at least one is needed"]

    def column(self, field: str) -> str:
        """Return the table's name for one of our columns."""
        return self.columns.get(field, field)
