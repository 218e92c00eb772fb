"""What the ``picai`` importer does: studies found on disk, joined with what is known of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from voxella.case import Manifest, Split
from voxella.errors import UserError
from voxella.imaging.headers import check_image_file
from voxella.importers.drafts import Assembly, Draft, warn
from voxella.importers.picai import LabelRule
from voxella.importers.picai_marksheet import Mark, read_marksheet
from voxella.importers.picai_reports import add_reports

__all__ = ["PicaiImporter", "PicaiSettings"]

_SEQUENCES = ("t2w", "adc", "hbv", "sag", "cor")
_FILE = re.compile(r"(\d+)_(\d+)_(t2w|adc|hbv|sag|cor)\.(?:mha|nii\.gz)")
_NAMED_AT_MOST = 5


@dataclass(frozen=True)
class PicaiSettings:
    """The builder's arguments, see :func:`voxella.importers.picai.picai`."""

    source: Path
    labels: Path | None
    splits: Path | None
    fold: int
    label_from: LabelRule
    sequences: tuple[str, ...]
    classes: tuple[str, ...]
    reports: Path | None
    reports_map: Path | None
    skip_bad: bool

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        found = [
            f"sequences: {name!r} is none of {', '.join(_SEQUENCES)}"
            for name in self.sequences
            if name not in _SEQUENCES
        ]
        if not self.sequences:
            found.append("sequences: at least one is needed")
        if len(self.classes) != 2:
            found.append(f"classes: PI-CAI's labels have two, not {len(self.classes)}")
        return found


class PicaiImporter:
    """Reads PI-CAI into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: PicaiSettings, assembly: Assembly) -> None:
        problems = [*settings.problems(), *assembly.problems()]
        if problems:
            raise UserError("\n".join(f"importer picai: {problem}" for problem in problems))
        self.settings = settings
        self.assembly = assembly

    def __call__(self, out: Path) -> Manifest:
        """Write reports and manifest (and images, where they are copied) under ``out``.

        Raises:
            UserError: No study is found; or studies are incomplete: all of them at once.
        """
        settings = self.settings
        marks = None if settings.labels is None else read_marksheet(settings.labels)
        official = None if settings.splits is None else _read_splits(settings.splits, settings.fold)
        drafts, problems = _studies(settings)
        drafts = [replace(draft, split=(official or {}).get(draft.id)) for draft in drafts]
        if official is not None:
            name = f"fold {settings.fold} of the splits"
            problems |= {d.id: f"not in {name}" for d in drafts if d.split is None}
        drafts = [draft for draft in drafts if draft.id not in problems]
        self._judge(drafts, problems)
        drafts = _labelled(drafts, marks, settings)
        drafts = add_reports(drafts, settings.reports, settings.reports_map, Path(out))
        return self.assembly.write(drafts, Path(out))

    def _judge(self, drafts: list[Draft], problems: dict[str, str]) -> None:
        """Refuse bad studies, or say that they are left out."""
        if not problems:
            return
        lines = [f"  study {case}: {problem}" for case, problem in sorted(problems.items())]
        if not self.settings.skip_bad or not drafts:
            head = f"{len(problems)} of {len(problems) + len(drafts)} studies cannot be imported:"
            raise UserError(
                "\n".join([head, *lines]),
                remedy="complete them, or leave them out: --set skip_bad=true",
            )
        warn("\n".join([f"{len(problems)} studies left out:", *lines]))


def _studies(settings: PicaiSettings) -> tuple[list[Draft], dict[str, str]]:
    """Find the studies and return them with the problems of incomplete ones, by case id."""
    found: dict[str, dict[str, Path]] = {}
    problems: dict[str, str] = {}
    for path, patient, study, sequence in _files(settings.source):
        images = found.setdefault(f"{patient}_{study}", {})
        if sequence in images:
            problems[f"{patient}_{study}"] = f"{sequence} is there twice"
        images[sequence] = path
    drafts: list[Draft] = []
    for case, images in sorted(found.items()):
        wrong = _wrong(images, settings.sequences)
        if wrong:
            problems.setdefault(case, wrong)
        wanted = {name: images[name] for name in settings.sequences if name in images}
        drafts.append(Draft(id=case, patient=case.split("_")[0], images=wanted))
    return drafts, problems


def _files(source: Path) -> list[tuple[Path, str, str, str]]:
    """Return (path, patient, study, sequence) of every image below the source."""
    root = source / "images" if (source / "images").is_dir() else source
    if not root.is_dir():
        raise UserError(f"{source}: no such folder")
    matches = [
        (path, match)
        # <patient>/file, or one level more where the fold folders were not merged.
        for pattern in ("*/*", "*/*/*")
        for path in sorted(root.glob(pattern))
        if (match := _FILE.fullmatch(path.name))
    ]
    if not matches:
        raise UserError(
            f"{source}: no PI-CAI image found",
            legal="<patient>/<patient>_<study>_<sequence>.mha, sequence one of "
            + ", ".join(_SEQUENCES),
            remedy="give the folder that the public fold archives were unpacked into",
        )
    return [(path, match[1], match[2], match[3]) for path, match in matches]


def _wrong(images: Mapping[str, Path], sequences: tuple[str, ...]) -> str:
    """Return what is wrong with a study's wanted sequences, or nothing."""
    wrong = [f"no {name}" for name in sequences if name not in images]
    for name in sequences:
        try:
            if name in images:
                check_image_file(images[name])
        except UserError as error:
            wrong.append(error.problem)
    return "; ".join(wrong)


def _read_splits(splits: Path, fold: int) -> dict[str, Split]:
    """Read one fold of PI-CAI's ``splits.json``: a list of {"train": [ids], "val": [ids]}."""
    candidates = [splits, splits / "splits.json", splits / "picai" / "splits.json"]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UserError(f"{splits}: no splits.json there")
    try:
        folds = json.loads(path.read_text(encoding="utf-8"))
        pairs = [[(name, part[name]) for name in ("train", "val")] for part in folds]
    except (ValueError, TypeError, KeyError) as error:
        problem = f'{path}: not a list of {{"train": [...], "val": [...]}}'
        raise UserError(problem) from error
    if not 0 <= fold < len(pairs):
        raise UserError(f"{path}: there is no fold {fold}", legal=f"0 to {len(pairs) - 1}")
    chosen: dict[str, Split] = {}
    for case in pairs[fold][0][1]:
        chosen[str(case)] = "train"
    for case in pairs[fold][1][1]:
        chosen[str(case)] = "val"
    return chosen


def _labelled(
    drafts: list[Draft], marks: dict[str, Mark] | None, settings: PicaiSettings
) -> list[Draft]:
    """Add labels and clinical facts; count the cases that get none."""
    if marks is None:
        warn(f"no labels given: none of {len(drafts)} cases has one (--set labels=picai_labels)")
        return drafts
    labelled = [
        _with_mark(draft, marks[draft.id], settings) if draft.id in marks else draft
        for draft in drafts
    ]
    absent = [draft.id for draft in drafts if draft.id not in marks]
    if absent:
        warn(f"{len(absent)} of {len(drafts)} cases are not in the marksheet: {_few(absent)}")
    bare = [d.id for d in labelled if d.label is None and d.id in marks]
    if bare:
        rule = settings.label_from
        warn(f"{len(bare)} of {len(drafts)} cases have no label by {rule}: {_few(bare)}")
    return labelled


def _with_mark(draft: Draft, mark: Mark, settings: PicaiSettings) -> Draft:
    positive, source = None, None
    if mark.pirads is not None and settings.label_from != "isup":
        positive, source = mark.pirads >= 3, "pirads"
    elif mark.isup is not None and settings.label_from != "pirads":
        positive, source = mark.isup >= 2, "isup"
    label = None if positive is None else settings.classes[int(positive)]
    return replace(draft, label=label, label_source=source, extra=mark.facts)


def _few(cases: list[str]) -> str:
    more = "" if len(cases) <= _NAMED_AT_MOST else ", ..."
    return ", ".join(cases[:_NAMED_AT_MOST]) + more
