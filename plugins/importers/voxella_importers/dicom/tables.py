"""Reports and labels, joined to studies by an original identifier that is hashed on both sides.

The tables' identifiers are hashed when they are read, like those of the files, and hashes are
compared: no original identifier is kept, and messages name rows and case ids only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from voxella.data.drafts import warn
from voxella.data.report_map import read_report_map, reports_in
from voxella.data.reports import Report, ReportReader
from voxella.data.rows.read import read_table
from voxella.errors import UserError
from voxella.texts.ids import trimmed
from voxella.texts.placeholders import is_nothing
from voxella_importers.dicom.identity import Identity
from voxella_importers.dicom.settings import COLUMNS, DicomSettings

__all__ = ["Joined", "join_tables"]

Value = TypeVar("Value")

_KEYS = {"study": "StudyInstanceUID", "accession": "AccessionNumber", "patient": "PatientID"}


@dataclass
class Joined:
    """What the tables say of the studies, by case id.

    Attributes:
        reports: Reports.
        labels: Classes.
        problems: Everything wrong with the tables and with the join.
        notes: What to warn of.
    """

    reports: dict[str, Report] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def warn(self) -> None:
        """Warn of what was left over."""
        for note in self.notes:
            warn(note)


def join_tables(
    studies: Mapping[str, str | None], settings: DicomSettings, identity: Identity, out: Path
) -> Joined:
    """Join reports and labels to studies.

    Args:
        studies: Hash of the identifier that tables are keyed by, by case id.
        settings: Names the tables.
        identity: Hashes the tables' identifiers.
        out: The data set's folder, in which no source report may lie.

    Raises:
        UserError: A table cannot be read at all.
    """
    joined = Joined()
    if settings.reports is not None or settings.reports_map is not None:
        files = _report_files(settings, identity, joined)
        matched = _matched("reports", files, studies, settings, joined)
        reader = ReportReader(out, settings.encoding)
        for case, path in matched.items():
            _add_report(case, path, reader, joined)
        joined.notes += reader.notes()
        _note_absent("report", len(studies), len(joined.reports), joined)
    if settings.labels is not None:
        labels = _labels(settings.labels, settings, identity, joined)
        found = _matched("labels", labels, studies, settings, joined)
        joined.labels = {case: label for case, label in found.items() if label}
        _note_absent("label", len(studies), len(joined.labels), joined)
    return joined


def _matched(
    what: str,
    table: Mapping[str, Value],
    studies: Mapping[str, str | None],
    settings: DicomSettings,
    joined: Joined,
) -> dict[str, Value]:
    """Return the table's values by case id; note identifiers that do not tell one study."""
    key = _KEYS[settings.keyed_by]
    shared = Counter(join for join in studies.values() if join in table)
    matched: dict[str, Value] = {}
    for case, join in studies.items():
        if join is None or join not in table:
            continue
        if shared[join] > 1:
            joined.problems.append(
                f"{what}: study {case} shares its {key} with another study; key the table by "
                "another: --set keyed_by=study (or accession, patient)"
            )
            continue
        matched[case] = table[join]
    if table and studies and not shared:
        joined.problems.append(
            f"{what}: none of its {len(table)} entries has the {key} of one of the {len(studies)} "
            "studies; is it keyed by another? --set keyed_by=study (or accession, patient). "
            "Leading zeros count"
        )
    unused = len(table) - len(shared)
    if unused and shared:
        joined.notes.append(f"{what}: {unused} of {len(table)} entries belong to no study")
    return matched


def _note_absent(what: str, studies: int, found: int, joined: Joined) -> None:
    if found < studies:
        joined.notes.append(f"{studies - found} of {studies} studies have no {what}")


def _report_files(settings: DicomSettings, identity: Identity, joined: Joined) -> dict[str, Path]:
    """Return report files by hashed identifier: by the map, or by the files' names."""
    lying, note = ([], None) if settings.reports is None else reports_in(settings.reports)
    joined.notes += [note] if note else []
    pairs = [(path.stem, path) for path in lying]
    if settings.reports_map is not None:
        pairs = read_report_map(
            settings.reports_map,
            settings.reports,
            encoding=settings.encoding,
            visible_only=settings.visible_only,
        )
    return _unique("reports", pairs, identity, joined)


def _add_report(case: str, path: Path, reader: ReportReader, joined: Joined) -> None:
    try:
        report = reader.file(path)
    except ValueError as error:
        joined.problems.append(f"study {case}: its report file {error}")
        return
    if report is not None:
        joined.reports[case] = report


def _labels(
    path: Path, settings: DicomSettings, identity: Identity, joined: Joined
) -> dict[str, str | None]:
    """Return classes by hashed identifier, None where the cell is empty."""
    names = [settings.column(field) for field in COLUMNS]
    table = read_table(path, names, encoding=settings.encoding, visible_only=settings.visible_only)
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)}",
            remedy="map our names to yours: --set 'columns={id: YOURS, label: YOURS}'",
        )
    pairs: list[tuple[str, str | None]] = []
    for row in table.rows:
        cell = row.cells[names[1]]
        label = settings.label_names.get(cell, cell)
        if label not in settings.classes and is_nothing(label):
            label = ""
        if label and label not in settings.classes:
            # Not quoted: an identifier's column may be mapped to it.
            expected = ", ".join([*settings.classes, *settings.label_names])
            joined.problems.append(
                f"labels: row {row.number}: its label is none of {expected} "
                "(map yours: --set 'label_names={...}')"
            )
            continue
        pairs.append((trimmed(row.cells[names[0]]), label or None))
    return _unique("labels", pairs, identity, joined)


def _unique(
    what: str, pairs: list[tuple[str, Value]], identity: Identity, joined: Joined
) -> dict[str, Value]:
    """Hash identifiers; an empty or repeated one is a problem."""
    found: dict[str, Value] = {}
    for number, (key, value) in enumerate(pairs, start=1):
        join = identity.digest("join", key)
        if not key.strip() or join in found:
            wrong = "stands there twice" if key.strip() else "is empty"
            joined.problems.append(f"{what}: the identifier of entry {number} {wrong}")
            continue
        found[join] = value
    return found
