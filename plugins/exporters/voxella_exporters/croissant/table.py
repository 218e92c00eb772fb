"""The cases of a data set as one table: what of the manifest leaves, and of which type it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxella.case import Case
from voxella_exporters.names import ExportedName, is_synthetic

__all__ = ["Column", "File", "columns", "table"]

Value = str | float | int | bool | None


@dataclass(frozen=True)
class File:
    """An image as it was written.

    Attributes:
        path: Relative to the export.
        sha256: Of its content.
        size: In bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Column:
    """A column of the table, and a field of the record set.

    Attributes:
        name: Its heading.
        about: What it is, one sentence.
        type: ``sc:Text``, ``sc:Float`` or ``sc:Boolean``.
        of: A case's value.
    """

    name: str
    about: str
    type: str
    of: Callable[[Case], Value]


def columns(
    cases: Sequence[Case],
    names: Mapping[str, ExportedName],
    images: Mapping[str, Mapping[str, File]],
    texts: Mapping[str, Mapping[str, str]],
) -> list[Column]:
    """Return the columns; of ``extra`` the voxel's edges alone, and whether a model made the case.

    Args:
        cases: All of them.
        names: What each is called outside.
        images: Files by sequence, by case.
        texts: Texts by name, by case; empty where they are not asked for.
    """
    made = [
        Column("id", "Name of the case, a pseudonym.", "sc:Text", lambda c: names[c.id].case),
        Column(
            "group",
            "Pseudonym of the patient or slide: cases of one group belong together.",
            "sc:Text",
            lambda c: names[c.id].group,
        ),
        Column("split", "train, val or test.", "sc:Text", lambda c: c.split),
        Column("label", "Class; empty where it is not known.", "sc:Text", lambda c: c.label),
        Column("label_source", "Where the class is from.", "sc:Text", lambda c: c.label_source),
        Column("synthetic", "Whether a model made the images.", "sc:Boolean", is_synthetic),
    ]
    made += [_edge(axis, name) for axis, name in enumerate("ras")]
    made += [_condition(name, cases) for name in _in_order(case.conditions for case in cases)]
    for name in _in_order(images.values()):
        made += _image(name, images)
    made += [_text(name, texts) for name in _in_order(texts.values())]
    return made


def table(cases: Sequence[Case], wanted: Sequence[Column]) -> str:
    """Return the cases as CSV with a heading; what is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.name for column in wanted)
    writer.writerows([column.of(case) for column in wanted] for case in cases)
    return text.getvalue()


def _in_order(mappings: Any) -> list[str]:  # noqa: ANN401 - any mappings by name
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _edge(axis: int, name: str) -> Column:
    def of(case: Case) -> Value:
        edges = case.extra.get("spacing_mm")
        return None if edges is None or axis >= len(edges) else float(edges[axis])

    return Column(f"spacing_{name}_mm", f"Edge of a voxel along {name.upper()}.", "sc:Float", of)


def _condition(name: str, cases: Sequence[Case]) -> Column:
    values = [case.conditions.get(name) for case in cases]
    kind = "sc:Text" if any(isinstance(value, str) for value in values) else "sc:Float"
    about = f"The condition {name}."
    return Column(f"condition_{name}", about, kind, lambda case: case.conditions.get(name))


def _image(name: str, images: Mapping[str, Mapping[str, File]]) -> list[Column]:
    def of(case: Case, what: str) -> Value:
        file = images[case.id].get(name)
        return None if file is None else str(getattr(file, what))

    return [
        Column(f"image_{name}", f"File of {name}.", "sc:Text", lambda case: of(case, "path")),
        Column(
            f"image_{name}_sha256",
            f"SHA-256 of the file of {name}.",
            "sc:Text",
            lambda case: of(case, "sha256"),
        ),
    ]


def _text(name: str, texts: Mapping[str, Mapping[str, str]]) -> Column:
    about = f"The text {name}. It is patient data."
    return Column(f"text_{name}", about, "sc:Text", lambda case: texts.get(case.id, {}).get(name))
