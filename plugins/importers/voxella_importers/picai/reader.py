"""What the ``picai`` importer does: studies found on disk, joined with what is known of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from voxella.case import Manifest
from voxella.data.drafts import CaseDraft, DatasetWriter, warn
from voxella.data.grouping import Problems, spans
from voxella.data.reports import ReportReader
from voxella.errors import UserError
from voxella.texts.encodings import encoding_problem
from voxella.wording import quoted
from voxella_importers.picai.files import SEQUENCES, find_studies
from voxella_importers.picai.marksheet import LabelRule, Mark, read_marksheet, read_splits
from voxella_importers.picai.masks import add_masks, mask_problems
from voxella_importers.picai.reports import add_reports

__all__ = ["PicaiImporter", "PicaiSettings"]

_NAMED_AT_MOST = 5
_ALL_NAMED = 50


@dataclass(frozen=True)
class PicaiSettings:
    """The builder's arguments, see :func:`voxella_importers.picai.plugin.picai`."""

    source: Path
    labels: Path | None
    splits: Path | None
    fold: int
    label_from: LabelRule
    sequences: tuple[str, ...]
    classes: tuple[str, ...]
    reports: Path | None
    reports_map: Path | None
    masks: tuple[str, ...]
    mask_tolerance_mm: float
    skip_bad: bool
    encoding: str | None = None
    visible_only: bool = False

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        found = [
            f"sequences: {quoted(name)} is none of {', '.join(SEQUENCES)}"
            for name in self.sequences
            if name not in SEQUENCES
        ]
        if not self.sequences:
            found.append("sequences: at least one is needed")
        found += mask_problems(self.masks)
        if self.masks and (self.labels is None or "t2w" not in self.sequences):
            found.append("masks: they need labels (the picai_labels folder) and the sequence t2w")
        if len(self.classes) != 2:
            found.append(f"classes: PI-CAI's labels have two, not {len(self.classes)}")
        return found + [p for p in (encoding_problem(self.encoding),) if p]


class PicaiImporter:
    """Reads PI-CAI into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: PicaiSettings, dataset_writer: DatasetWriter) -> None:
        problems = [*settings.problems(), *dataset_writer.problems()]
        if problems:
            raise UserError("\n".join(f"importer picai: {problem}" for problem in problems))
        self.settings = settings
        self.dataset_writer = dataset_writer

    def __call__(self, out: Path) -> Manifest:
        """Write reports and manifest (and images, where they are copied) under ``out``.

        Raises:
            UserError: No study is found; or studies are incomplete: all of them at once.
        """
        settings = self.settings
        told, seen = settings.encoding, settings.visible_only
        marks = None
        if settings.labels is not None:
            marks = read_marksheet(settings.labels, encoding=told, visible_only=seen)
        official = None if settings.splits is None else read_splits(settings.splits, settings.fold)
        drafts, problems = find_studies(settings.source, settings.sequences)
        drafts = [replace(draft, split=(official or {}).get(draft.id)) for draft in drafts]
        if official is not None:
            name = f"fold {settings.fold} of the splits"
            for draft in drafts:
                if draft.split is None:
                    problems.add(draft.id, f"not in {name}")
        if official is not None or marks is not None:
            _warn_absent(drafts, marks or official or {})
        drafts = self._judged(drafts, problems)
        drafts = _labelled(drafts, marks, settings)
        if settings.masks and settings.labels is not None:
            drafts = add_masks(drafts, settings.labels, settings.masks, settings.mask_tolerance_mm)
        reader = ReportReader(Path(out), told)
        drafts = add_reports(
            drafts,
            settings.reports,
            settings.reports_map,
            reader,
            encoding=told,
            visible_only=seen,
        )
        return self.dataset_writer.write(drafts, Path(out))

    def _judged(self, drafts: list[CaseDraft], problems: Problems) -> list[CaseDraft]:
        """Return the good studies; refuse bad ones, or say that they are left out."""
        bad = problems.cases
        if not bad:
            return drafts
        if not self.settings.skip_bad or len(bad) == len(drafts):
            head = f"{len(bad)} of {len(drafts)} studies cannot be imported:"
            raise UserError(
                "\n".join([head, *problems.lines()]),
                remedy="complete them"
                + ("" if len(bad) == len(drafts) else ", or leave them out: --set skip_bad=true"),
            )
        warn("\n".join([f"{len(bad)} studies left out:", *problems.lines()]))
        return [draft for draft in drafts if draft.id not in bad]


def _warn_absent(drafts: list[CaseDraft], known: Collection[str]) -> None:
    """Say which studies are known and have no images here: a fold that was not unpacked, say."""
    found = {draft.id for draft in drafts}
    absent = sorted(case for case in known if case not in found)
    if absent:
        # Many are absent because they were left out on purpose; a few should be named.
        named = _few(absent) if len(absent) > _ALL_NAMED else spans(absent)
        warn(
            f"{len(absent)} of {len(known)} known studies have no images here and are not "
            f"imported: {named}"
        )


def _labelled(
    drafts: list[CaseDraft], marks: dict[str, Mark] | None, settings: PicaiSettings
) -> list[CaseDraft]:
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


def _with_mark(draft: CaseDraft, mark: Mark, settings: PicaiSettings) -> CaseDraft:
    positive, source = None, None
    if mark.pirads is not None and settings.label_from != "isup":
        positive, source = mark.pirads >= 3, "pirads"
    elif mark.isup is not None and settings.label_from != "pirads":
        positive, source = mark.isup >= 2, "isup"
    label = None if positive is None else settings.classes[int(positive)]
    return replace(
        draft,
        label=label,
        label_source=source,
        conditions=mark.conditions,
        extra=mark.facts,
    )


def _few(cases: list[str]) -> str:
    more = "" if len(cases) <= _NAMED_AT_MOST else ", ..."
    return spans(cases[:_NAMED_AT_MOST]) + more
