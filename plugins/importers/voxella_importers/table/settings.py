"""The ``table`` importer's arguments, checked before the table is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxella.case.texts import ANY, REPORT, TEXT_NAME
from voxella.errors import UserError
from voxella.terminal import complain
from voxella.texts.encodings import encoding_problem
from voxella.wording import named_list, quoted, why_no_code

__all__ = ["FIELDS", "FORMER_GROUP", "TableSettings", "columns_as_now", "text_columns"]

# Our names of columns that are no images.
FIELDS = ("id", "group", "split", "label", "label_source", "report", "report_file")

# What ``group`` was called; a column that the table itself calls so needs no mapping.
FORMER_GROUP = "patient"


def columns_as_now(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping of columns with the names of now; warn of a former one.

    Raises:
        UserError: A column is named twice, by either name.
    """
    if FORMER_GROUP not in columns:
        return dict(columns)
    if "group" in columns:
        raise UserError(
            "importer table: columns: patient is the former name of group, and both are given",
            remedy="name group alone: the column by which cases belong together",
        )
    complain("warning: columns: patient is called group now; write group: the old name goes")
    return {("group" if name == FORMER_GROUP else name): v for name, v in columns.items()}


def text_columns(
    columns: Mapping[str, str], texts: Mapping[str, str], field: str
) -> dict[str, str]:
    """Return the column of each text by name; the report's is the column ``field`` by itself.

    Raises:
        UserError: The report's column is named in two places.
    """
    if field in columns and REPORT in texts:
        raise UserError(
            f"importer table: the column of reports stands in columns.{field} and again by the "
            f"name {REPORT}",
            remedy="name it once",
        )
    return {REPORT: columns.get(field, field), **texts}


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
    texts: dict[str, str]
    text_files: dict[str, str]
    conditions: dict[str, str]
    extra: tuple[str, ...]
    delimiter: str | None
    sheet: str | None
    encoding: str | None
    visible_only: bool

    @classmethod
    def of(
        cls,
        *,
        source: Path,
        images: Path | None,
        columns: Mapping[str, str] | None,
        sequences: Sequence[str],
        classes: Sequence[str],
        labels: Mapping[str, str] | None,
        label_source: str,
        conditions: Mapping[str, str] | None,
        extra: Sequence[str],
        delimiter: str | None,
        sheet: str | None,
        encoding: str | None,
        reports: Path | None = None,
        texts: Mapping[str, str] | None = None,
        text_files: Mapping[str, str] | None = None,
        visible_only: bool = False,
    ) -> TableSettings:
        """Return the settings of an importer's arguments, as they come from a recipe.

        Raises:
            UserError: A column is named twice.
        """
        named = columns_as_now(columns or {})
        return cls(
            source=Path(source),
            images=Path(images or Path(source).parent),
            reports=Path(reports or Path(source).parent),
            columns=named,
            sequences=tuple(sequences),
            classes=tuple(str(name) for name in classes),
            labels={str(key): value for key, value in (labels or {}).items()},
            label_source=label_source,
            texts=text_columns(named, texts or {}, "report"),
            text_files=text_columns(named, text_files or {}, "report_file"),
            conditions=dict(conditions or {}),
            extra=tuple(extra),
            delimiter=delimiter,
            sheet=sheet,
            encoding=encoding,
            visible_only=visible_only,
        )

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        expected = [*FIELDS, *self.sequences]
        found = [
            f"columns: {quoted(key)} is none of {named_list(expected)}"
            for key in self.columns
            if key not in expected
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
        found += [
            "texts: a name is letters, digits and _ - only, 32 at most, not any"
            for name in dict.fromkeys((*self.texts, *self.text_files))
            if not TEXT_NAME.fullmatch(name) or name == ANY
        ]
        taken = [name for name in self.sequences if name in FIELDS]
        found += [f"sequences: {quoted(name)} is a column of another meaning" for name in taken]
        found += [problem for problem in (encoding_problem(self.encoding),) if problem]
        return found if self.sequences else [*found, "sequences: at least one is needed"]

    def of_table(self, columns: Collection[str]) -> TableSettings:
        """Return the settings for a table of these columns: what it groups its cases by.

        Raises:
            UserError: It has both a column ``group`` and a column ``patient``, and none is named.
        """
        if "group" in self.columns or FORMER_GROUP not in columns:
            return self
        if FORMER_GROUP in (*self.sequences, *self.columns.values()):
            return self  # it has another meaning
        if "group" in columns and "group" not in self.columns.values():
            raise UserError(
                f"{self.source}: columns group and patient; which of them says what belongs "
                "together and never parts over train, val and test?",
                remedy="name it: --set 'columns={group: patient}'   (or columns={group: group})",
            )
        return replace(self, columns={**self.columns, "group": FORMER_GROUP})

    def column(self, field: str) -> str:
        """Return the table's name for one of our columns."""
        return self.columns.get(field, field)
