"""What the ``prostate158`` importer does: three tables, joined with the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from voxella.case import Manifest, Split
from voxella.data.cells import number_or_text
from voxella.data.drafts import CaseDraft, DatasetWriter, warn
from voxella.data.grouping import Problems, image_problem
from voxella.data.mask_grids import off_grid, read_grid
from voxella.data.rows.read import Row, read_table, shown
from voxella.errors import UserError
from voxella.texts.encodings import encoding_problem
from voxella.texts.ids import trimmed
from voxella.texts.placeholders import is_nothing
from voxella.wording import quoted, why_no_code
from voxella_importers.prostate158.files import CaseFolders

__all__ = ["Prostate158Importer", "Prostate158Settings"]

_TABLES: dict[str, Split] = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}
_SEQUENCES = {"t2w": "t2", "adc": "adc", "dwi": "dwi", "hbv": "dwi"}
# Columns by mask, best first.
_MASKS = {
    "anatomy": ("t2_anatomy_reader1",),
    "lesion": ("t2_tumor_reader1", "adc_tumor_reader1"),
}
_TUMOR = ("t2_tumor_reader1", "adc_tumor_reader1", "adc_tumor_reader2")
_EMPTY = "empty.nii.gz"
_LONGEST_CODE = 32
_NEEDED = ("ID", "t2", "adc_tumor_reader1")


@dataclass(frozen=True)
class Prostate158Settings:
    """The builder's arguments, see :func:`voxella_importers.prostate158.plugin.prostate158`."""

    source: Path
    images: Path
    sequences: tuple[str, ...]
    masks: tuple[str, ...]
    mask_tolerance_mm: float
    classes: tuple[str, ...]
    skip_bad: bool
    conditions: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None

    def problems(self) -> list[str]:
        """Return what is wrong with these settings."""
        found = [
            f"{argument}: {quoted(name)} is none of {', '.join(expected)}"
            for argument, given, expected in (
                ("sequences", self.sequences, _SEQUENCES),
                ("masks", self.masks, _MASKS),
            )
            for name in given
            if name not in expected
        ]
        if not self.sequences:
            found.append("sequences: at least one is needed")
        if len(self.classes) != 2:
            found.append(f"classes: a lesion is drawn or not: two, not {len(self.classes)}")
        return found + [p for p in (encoding_problem(self.encoding),) if p]


class Prostate158Importer:
    """Reads Prostate158 into a data set folder.

    Raises:
        UserError: On construction, naming everything wrong with the settings.
    """

    def __init__(self, settings: Prostate158Settings, dataset_writer: DatasetWriter) -> None:
        problems = settings.problems()
        if problems:
            raise UserError("\n".join(f"importer prostate158: {problem}" for problem in problems))
        self.settings = settings
        self.dataset_writer = dataset_writer

    def __call__(self, out: Path) -> Manifest:
        """Write the manifest (and images, where they are copied) under ``out``.

        Raises:
            UserError: Tables are absent or wrong, or images are absent: all of them at once, by
                what is absent.
        """
        settings = self.settings
        rows = _read_rows(settings)
        join = _Join(settings, CaseFolders(settings.images))
        drafts = [join.draft(number, row, split) for number, row, split in rows]
        if bad := join.problems.cases:
            self._judge(len(bad), len(drafts), join.problems)
            drafts = [draft for draft in drafts if draft.id not in bad]
        if join.masks.cases:
            told = "\n".join(join.masks.lines())
            warn(f"{len(join.masks.cases)} of {len(drafts)} cases lack a mask:\n{told}")
        return self.dataset_writer.write(drafts, Path(out))

    def _judge(self, bad: int, total: int, problems: Problems) -> None:
        """Refuse cases without images, or say that they are left out."""
        if not self.settings.skip_bad or bad == total:
            raise UserError(
                "\n".join(
                    [
                        f"{bad} of {total} cases of the tables have no usable images below "
                        f"{self.settings.images}:",
                        *problems.lines(),
                    ]
                ),
                expected="train/024/t2.nii.gz or 024/t2.nii.gz there, one folder a case",
                remedy="unpack both archives of Prostate158 and give their folder: --set "
                "images=FOLDER"
                + ("" if bad == total else ", or leave these cases out: --set skip_bad=true"),
            )
        warn("\n".join([f"{bad} of {total} cases left out:", *problems.lines()]))


def _read_rows(settings: Prostate158Settings) -> list[tuple[int, Row, Split]]:
    """Return (case number, row, split) of all tables.

    Raises:
        UserError: There is no table, or rows are wrong: all of them, by number.
    """
    source, wanted = settings.source, settings.conditions.values()
    tables = [(source / name, split) for name, split in _TABLES.items()]
    there = [(path, split) for path, split in tables if path.is_file()]
    if not there:
        raise UserError(
            f"{source}: none of {', '.join(_TABLES)} there",
            remedy="give the folder of Prostate158's tables; --set images=FOLDER names the images'",
        )
    rows: list[tuple[int, Row, Split]] = []
    problems: list[str] = []
    first: dict[int, str] = {}
    lacking = set(wanted)
    for path, split in there:
        table = read_table(path, (*_NEEDED, *wanted), encoding=settings.encoding, numbers=wanted)
        if missing := [name for name in _NEEDED if name not in table.columns]:
            problems.append(f"{path}: no column {', '.join(missing)}: not Prostate158's table")
            continue
        lacking -= {*table.columns}
        for row in table.rows:
            problems += [
                f"{path}: row {row.number}: {shown([column])} is more than one word: free text is "
                "not kept in a manifest, numbers and short codes are"
                for column in wanted
                if (cell := trimmed(row.cells.get(column, "")))
                and why_no_code(cell, longest=_LONGEST_CODE, most_words=1)
            ]
            where = f"{path}: row {row.number}"
            # A column of ids that a spreadsheet took for numbers with gaps: 24.0
            cell = row.cells["ID"].removesuffix(".0")
            if not (cell.isdecimal() and cell.isascii()):
                problems.append(f"{where}: its ID is no number")
            elif int(cell) in first:
                problems.append(f"{where}: ID {int(cell)} stands in {first[int(cell)]} already")
            else:
                first[int(cell)] = f"{path.name}, row {row.number},"
                rows.append((int(cell), row, split))
    problems += [f"{source}: no table has the column {shown([column])}" for column in lacking]
    if problems:
        raise UserError("\n".join(problems), remedy="fix the tables and import again")
    return rows


class _Join:
    """Rows to drafts, gathering problems on the way."""

    def __init__(self, settings: Prostate158Settings, folders: CaseFolders) -> None:
        self.settings = settings
        self.folders = folders
        self.problems = Problems()
        self.masks = Problems()

    def draft(self, number: int, row: Row, split: Split) -> CaseDraft:
        """Return a case's draft; what is wrong with its files is noted."""
        case = f"{number:03d}"
        drawn = any(_drawn(row.cells.get(column, "")) for column in _TUMOR)
        draft = CaseDraft(
            id=case,
            group=case,
            images=dict(self._images(case, number, row)),
            label=self.settings.classes[int(drawn)],
            label_source="lesion_drawn",
            split=split,
            conditions={
                name: number_or_text(cell, decimal_comma=False)
                for name, column in self.settings.conditions.items()
                if not is_nothing(cell := trimmed(row.cells.get(column, "")))
            },
        )
        for mask in self.settings.masks if case not in self.problems.cases else ():
            self._add_mask(draft, number, row, mask)
        return draft

    def _images(self, case: str, number: int, row: Row) -> Iterator[tuple[str, Path]]:
        for sequence in self.settings.sequences:
            cell = row.cells.get(_SEQUENCES[sequence], "")
            if not cell:
                self.problems.add(case, f"the table names no {sequence} image")
                continue
            path = self.folders.locate(number, cell)
            if self.folders.twice(number, cell):
                self.problems.add(case, f"{path.name} is there in two folders")
            if problem := image_problem(path.name, path):
                self.problems.add(case, problem)
            yield sequence, path

    def _add_mask(self, draft: CaseDraft, number: int, row: Row, mask: str) -> None:
        cells = [row.cells.get(column, "") for column in _MASKS[mask]]
        cell = next((cell for cell in cells if cell), "")
        path = self.folders.locate(number, cell)
        t2w = self.folders.locate(number, row.cells["t2"])
        problem = f"the table names no {mask} mask"
        if cell:
            problem = image_problem(path.name, path) or self._off_grid(path, t2w) or ""
        if problem:
            self.masks.add(draft.id, problem)
            return
        draft.images[mask] = path
        draft.extra[f"{mask}_mask"] = path.name.removesuffix(".nii.gz")

    def _off_grid(self, mask: Path, t2w: Path) -> str | None:
        try:
            differs = off_grid(read_grid(mask), read_grid(t2w), self.settings.mask_tolerance_mm)
        except UserError:
            return f"{mask.name}: its header, or that of t2.nii.gz, cannot be read"
        return differs and f"{mask.name} is off the T2W grid, {differs}"


def _drawn(cell: str) -> bool:
    """Return whether a cell names a lesion: blank and ``empty.nii.gz`` both say there is none."""
    return not is_nothing(cell) and PurePosixPath(cell.replace("\\", "/")).name != _EMPTY
