"""What the ``ccella`` importer does: lists to cases, held against the spreadsheet."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from voxella.case import Case, Manifest, Split
from voxella.data.drafts import CaseDraft, DatasetWriter, split_of, warn
from voxella.data.grouping import Problems, image_problem, spans
from voxella.data.reports import Report, ReportReader
from voxella.errors import UserError
from voxella_importers.ccella.lists import KEYS, Entry, find_lists, read_lists
from voxella_importers.ccella.settings import CcellaSettings
from voxella_importers.ccella.sheet import Marks, read_sheet

__all__ = ["CcellaImporter"]


class CcellaImporter:
    """Reads the released code's lists into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: CcellaSettings, dataset_writer: DatasetWriter) -> None:
        problems = [*settings.problems(), *dataset_writer.problems()]
        if problems:
            raise UserError("\n".join(f"importer ccella: {problem}" for problem in problems))
        self.settings = settings
        self.dataset_writer = dataset_writer

    def __call__(self, out: Path) -> Manifest:
        """Write reports and manifest (and images, where they are copied) under ``out``.

        Raises:
            UserError: Lists, spreadsheet or images are wrong; each kind all at once.
        """
        settings = self.settings
        entries = read_lists(settings.source, settings.encoding)
        marks = {} if settings.labels is None else self._sheet(settings.labels)
        join = _Join(settings, self.dataset_writer, marks, ReportReader(Path(out)))
        drafts = [draft for entry in entries if (draft := join.draft(entry)) is not None]
        join.refuse()
        drafts = self._with_images(drafts, join.images)
        _refuse_torn_patients(drafts)
        _warn(drafts, entries, marks)
        for note in join.reader.notes():
            warn(note)
        return self.dataset_writer.write(drafts, Path(out))

    def _sheet(self, labels: Path) -> dict[str, Marks]:
        settings = self.settings
        return read_sheet(
            labels,
            settings.sheet,
            encoding=settings.encoding,
            visible_only=settings.visible_only,
        )

    def _with_images(self, drafts: list[CaseDraft], problems: Problems) -> list[CaseDraft]:
        """Return the cases with images; refuse the others, or say that they are left out."""
        bad = problems.cases
        if not bad:
            return drafts
        head = f"{len(bad)} of {len(drafts)} cases have no usable images:"
        if not self.settings.skip_bad or len(bad) == len(drafts):
            raise UserError(
                "\n".join([head, *problems.lines()]),
                remedy="say what the lists' image paths are relative to: --set images=FOLDER"
                + ("" if len(bad) == len(drafts) else ", or leave them out: --set skip_bad=true"),
            )
        warn("\n".join([f"left out: {head}", *problems.lines()]))
        return [draft for draft in drafts if draft.id not in bad]


class _Join:
    """Entries to drafts, gathering problems on the way."""

    def __init__(
        self,
        settings: CcellaSettings,
        dataset_writer: DatasetWriter,
        marks: dict[str, Marks],
        reader: ReportReader,
    ) -> None:
        self.reader = reader
        self.settings = settings
        self.dataset_writer = dataset_writer
        self.marks = marks
        self.problems: list[str] = []
        self.images = Problems()
        lists = find_lists(settings.source)
        beside = lists / "images"
        self._root = settings.images or (beside if beside.is_dir() else lists)
        self._ids: dict[str, str] = {}

    def refuse(self) -> None:
        """Raise what was found to be wrong with entries, if anything."""
        if self.problems:
            raise UserError(
                "\n".join([f"{len(self.problems)} entries are wrong:", *self.problems]),
                remedy="fix the lists or the spreadsheet and import again; nothing was written",
            )

    def draft(self, entry: Entry) -> CaseDraft | None:
        """Return an entry's draft, or None when it has no usable id."""
        case = "_".join(PurePosixPath(entry.folder).parts)
        try:
            Case(id=case, group="", images={})
            if ".." in entry.folder:
                raise ValueError
        except ValueError:  # pydantic's is one
            self._note(entry, "its folder is not of letters, digits and _ . - / only")
            return None
        if case in self._ids:
            self._note(entry, f"the same id as {self._ids[case]} ({case})")
        self._ids.setdefault(case, entry.where)
        marks = self.marks.get(entry.folder)
        patient = (marks and marks.patient) or PurePosixPath(entry.folder).parts[0]
        positive, source = self._label(entry, marks)
        return CaseDraft(
            id=case,
            group=patient,
            images=self._images(case, entry),
            report=self._report(entry),
            label=None if positive is None else self.settings.classes[int(positive)],
            label_source=source,
            split=self._split(entry, marks, patient),
            conditions={} if marks is None else marks.conditions,
            extra=_extra(entry, case),
        )

    def _note(self, entry: Entry, problem: str) -> None:
        self.problems.append(f"  {entry.where}: {problem}")

    def _images(self, case: str, entry: Entry) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for name in self.settings.sequences:
            key = KEYS[name]
            if key not in entry.paths:
                self.images.add(case, f"no {key} in the list")
                continue
            found[name] = self._root / entry.paths[key].replace("\\", "/")
            if problem := image_problem(f"{key} file", found[name]):
                self.images.add(case, problem)
        return found

    def _report(self, entry: Entry) -> Report | None:
        if not entry.text:
            return None
        if entry.is_null:
            self._note(entry, "text_isnull is 1, and there is a text")
        try:
            return self.reader.inline(entry.text, "json")
        except ValueError as error:
            self._note(entry, f"its text {error}")
            return None

    def _label(self, entry: Entry, marks: Marks | None) -> tuple[bool | None, str]:
        """Return whether a case is positive and where that comes from."""
        if marks is None:
            return entry.positive, "pirads"
        known = {"pirads": marks.pirads, "isup": marks.isup, "table": marks.positive}
        # The released code takes PosPIRADS, and PosISUP where that is empty.
        told = next((value for value in known.values() if value is not None), None)
        positive = told if entry.positive is None else entry.positive
        agreeing = [name for name, value in known.items() if value is positive]
        if (told is not None and not agreeing) or marks.positive is (not positive):
            self._note(entry, "pirads in the list and the spreadsheet's row disagree")
        return positive, marks.label_source or (agreeing[0] if agreeing else "pirads")

    def _split(self, entry: Entry, marks: Marks | None, patient: str) -> Split | None:
        if entry.split is None or self.settings.resplit:
            return None
        told = entry.split if marks is None or marks.split is None else marks.split
        if told == entry.split == "train":
            drawn = self.dataset_writer
            return split_of(patient, seed=drawn.seed, val_share=drawn.val_share, test_share=0.0)
        if told != entry.split and (entry.split, told) != ("train", "val"):
            self._note(entry, f"it stands in the list {entry.split}, its row says {told}")
        return told


def _extra(entry: Entry, case: str) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if entry.dataset is not None:
        extra["dataset"] = entry.dataset
    if entry.folder != case:
        extra["folder"] = entry.folder
    if entry.spacing_mm is not None:
        extra["spacing_mm"] = list(entry.spacing_mm)
    if entry.features is not None:
        extra["text_features"] = str(entry.features.absolute())
        if entry.features_null:
            extra["text_isnull"] = 1
    return extra


def _refuse_torn_patients(drafts: list[CaseDraft]) -> None:
    """Refuse a patient in several lists; cases whose split is to be drawn are not in any."""
    first: dict[str, CaseDraft] = {}
    torn = [
        draft.id for draft in drafts if first.setdefault(draft.group, draft).split != draft.split
    ]
    if torn:
        raise UserError(
            f"patients of {len(torn)} cases stand in several splits: {spans(sorted(torn))}",
            remedy="draw splits by patient instead: --set resplit=true",
        )


def _warn(drafts: list[CaseDraft], entries: list[Entry], marks: dict[str, Marks]) -> None:
    """Say what the lists and the spreadsheet do not know of each other, and what is not used."""
    folders = {entry.folder for entry in entries}
    if marks and (without := len(folders - set(marks))):
        warn(f"{without} of {len(folders)} cases are not in the spreadsheet")
    if unused := len(set(marks) - folders):
        warn(f"{unused} of {len(marks)} rows of the spreadsheet are of no case in the lists")
    bare = [d for d in drafts if "text_features" in d.extra and d.report is None]
    bare = [draft for draft in bare if "text_isnull" not in draft.extra]
    if bare:
        absent = sum(not Path(draft.extra["text_features"]).is_file() for draft in bare)
        warn(
            f"{len(bare)} of {len(drafts)} cases have precomputed text features and no report; "
            f"encoding needs the report (train.json, not train_merged.json) and counts them as "
            f"cases without one; {absent} of these feature files are absent"
        )
