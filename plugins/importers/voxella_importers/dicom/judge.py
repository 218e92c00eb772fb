"""Every study held to the rules before a pixel is written: what can be imported, and what not."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from voxella.data.drafts import warn
from voxella.errors import UserError
from voxella.wording import listed
from voxella_importers.dicom.choice import Chosen, choose, name_series
from voxella_importers.dicom.pixels import check_decodable
from voxella_importers.dicom.scan import BadFile, Scan, Study
from voxella_importers.dicom.settings import DicomSettings
from voxella_importers.dicom.stack import Refusal

__all__ = ["Judged", "judge", "refuse", "warn_of_doubts"]

_NAMED = 5
_PATHS_AT_MOST = 20


@dataclass
class Judged:
    """What was found out about a source.

    Attributes:
        volumes: The chosen volume of each sequence, by the case ids of good studies.
        studies: What is wrong, by the case ids of bad studies.
        files: What is wrong with files that belong to no study.
        patients: Patient by case id of good studies.
        joins: Hash of the identifier that tables are keyed by, likewise.
    """

    volumes: dict[str, dict[str, Chosen]] = field(default_factory=dict)
    studies: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    patients: dict[str, str] = field(default_factory=dict)
    joins: dict[str, str | None] = field(default_factory=dict)


def judge(found: Scan, settings: DicomSettings) -> Judged:
    """Choose every study's volumes, gathering what is wrong with all of them."""
    judged = Judged()
    guilty: set[Path] = set()
    for case, study in found.studies.items():
        volumes, problems = _volumes(study, settings)
        problems += _relations(study, settings)
        # A damaged file may be a slice of what lies beside it.
        beside = {folder for one in study.series.values() for folder in one.folders}
        bad = [one for one in found.bad if one.path.parent in beside]
        guilty |= {one.path for one in bad}
        problems += _files(bad, found.files, settings)
        if problems:
            judged.studies[case] = [*problems, *_place(study, settings)]
            continue
        judged.volumes[case] = volumes
        judged.patients[case] = min(study.patients, default=case)
        judged.joins[case] = min(study.joins, default=None)
    # Beside series that no rule wants, a damaged file is nobody's problem.
    stray = [
        one for one in found.bad if one.path not in guilty and one.path.parent not in found.folders
    ]
    judged.files = _files(stray, found.files, settings)
    return judged


def refuse(judged: Judged, more: list[str], *, skip_bad: bool) -> None:
    """Refuse whatever is wrong, or say what is left out.

    Args:
        judged: The judgement.
        more: Problems of the tables, which are never skipped.
        skip_bad: Leave bad studies and files out, as long as there are good studies.

    Raises:
        UserError: Everything at once.
    """
    lines: list[str] = []
    if judged.studies:
        count, total = len(judged.studies), len(judged.studies) + len(judged.volumes)
        lines.append(f"{count} of {total} studies cannot be imported:")
        lines += [f"  study {case}: {'; '.join(why)}" for case, why in judged.studies.items()]
    if judged.files:
        lines += ["files that cannot be read:", *(f"  {line}" for line in judged.files)]
    if lines and skip_bad and judged.volumes and not more:
        warn("\n".join(["left out:", *lines]))
    elif lines or more:
        raise UserError(
            "\n".join([*lines, *more]),
            remedy="fix them, or leave bad studies and files out: --set skip_bad=true "
            "(--set show_paths=true tells where they lie; paths may hold names)",
        )


def warn_of_doubts(found: Scan, judged: Judged) -> None:
    """Warn of what is imported and should be looked at."""
    thickness: dict[str, list[str]] = defaultdict(list)
    holes: list[str] = []
    for case, volumes in judged.volumes.items():
        for sequence, chosen in volumes.items():
            volume = chosen.stack
            if volume.thickness is not None:
                text = f"SliceThickness is {volume.thickness:.4g} mm, the gap {volume.gap:.4g} mm,"
                thickness[text].append(f"{case} {sequence}")
            if chosen.hole_in_numbers:
                holes.append(f"{case} {sequence}")
    for text, cases in sorted(thickness.items()):
        warn(f"{text} in {listed(cases, _NAMED)}; the gap is used")
    if holes:
        warn(
            "instance numbers do not run from 1: is a slice missing at an end? "
            + listed(holes, _NAMED)
        )
    nameless = [case for case, patient in judged.patients.items() if patient == case]
    if nameless:
        warn(f"no PatientID, so each is taken for a patient of its own: {listed(nameless, _NAMED)}")
    if len(judged.patients) > 1 and len(set(judged.patients.values())) == 1:
        warn(f"all {len(judged.patients)} studies have one PatientID, and so share one split")
    for cases in _alike(found, judged):
        warn(
            f"the PatientIDs of {listed(cases, _NAMED)} differ only in letter case, zeros in front "
            "or parting; they count as different patients, who may stand in different splits"
        )
    if found.ignored:
        warn(f"{found.ignored} of {found.files} files are no images by their kind; not read")


def _alike(found: Scan, judged: Judged) -> list[list[str]]:
    """Return the cases of patients who may be one; by hashes, for nothing else is kept of ids."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in judged.patients:
        if (comparable_hash := found.studies[case].comparable_hash) is not None:
            groups[comparable_hash].append(case)
    return [cases for cases in groups.values() if len({judged.patients[c] for c in cases}) > 1]


def _volumes(study: Study, settings: DicomSettings) -> tuple[dict[str, Chosen], list[str]]:
    volumes: dict[str, Chosen] = {}
    problems: list[str] = []
    for sequence, rule in settings.rules.items():
        try:
            chosen = choose(study, sequence, rule)
            if chosen.series.compressed:
                _try_decoding(chosen)
        except Refusal as refusal:
            problems.append(f"{sequence}: {refusal}")
        else:
            volumes[sequence] = chosen
    return volumes, problems


def _try_decoding(chosen: Chosen) -> None:
    try:
        check_decodable(chosen.stack)
    except Refusal as refusal:
        raise Refusal(f"{name_series(chosen.series)}: {refusal}") from None


def _relations(study: Study, settings: DicomSettings) -> list[str]:
    """Return what is wrong with a study as a whole."""
    problems: list[str] = []
    if len(study.patients) > 1:
        problems.append(f"its files name {len(study.patients)} patients")
    tables = (settings.reports, settings.reports_map, settings.labels)
    if len(study.joins) > 1 and any(tables):
        problems.append(f"its files hold {len(study.joins)} {settings.keyed_by} identifiers")
    return problems


def _files(bad: list[BadFile], total: int, settings: DicomSettings) -> list[str]:
    """Tell of files, those with one reason together."""
    reasons: dict[str, list[BadFile]] = defaultdict(list)
    for one in bad:
        reasons[one.reason].append(one)
    lines: list[str] = []
    for reason, files in reasons.items():
        numbers = [str(one.number) for one in files]
        which = f"file {numbers[0]}" if len(files) == 1 else f"files {listed(numbers, _NAMED)}"
        paths = (str(one.path.relative_to(settings.source)) for one in files[:_PATHS_AT_MOST])
        where = f" ({', '.join(paths)})" if settings.show_paths else ""
        lines.append(f"{which} of {total}{where}: {reason}")
    return lines


def _place(study: Study, settings: DicomSettings) -> list[str]:
    """Tell where a study lies, if the user wants to see paths."""
    if not settings.show_paths:
        return []
    folder = os.path.commonpath([str(folder) for folder in study.folders])
    return [f"it lies in {os.path.relpath(folder, settings.source)}"]
