"""A folder of files to studies and their series; nothing is judged here."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from voxella.errors import UserError
from voxella.progress import Steps
from voxella_importers.dicom.file import Unreadable
from voxella_importers.dicom.headers import Asked, Header, read_header
from voxella_importers.dicom.keep import Kept
from voxella_importers.dicom.slice import Slice
from voxella_importers.dicom.stack import plane_of

__all__ = ["BadFile", "Scan", "Series", "Study", "scan"]

# Reading waits for the disc, most of all for one across a network.
_THREADS = 8
_AT_ONCE = 2048
_REMEDY = "name the folder that holds the studies: voxella import dicom FOLDER --out DATASET"


@dataclass
class Series:
    """The files of one series.

    Attributes:
        number: SeriesNumber, None where there is none.
        shown: Its description, as far as it can be shown.
        fits: Sequences whose rule the description fits.
        plane: Nearest plane of its first slice; None where it is not known.
        planes: All planes its files lie in.
        count: Images.
        kinds: What makes files of it no slices of a volume, with counts.
        defects: What is wrong with files of it, with counts.
        slices: Its slices; only where a rule fits.
        folders: Where its files lie; only where a rule fits.
        compressed: Some of its pixels have to be decoded.
        kept: Values to keep, of its first file.
    """

    number: int | None
    shown: str
    fits: frozenset[str]
    plane: str | None = None
    planes: set[str] = field(default_factory=set)
    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    defects: Counter[str] = field(default_factory=Counter)
    slices: list[Slice] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    compressed: bool = False
    kept: dict[str, Kept] = field(default_factory=dict)

    def add(self, header: Header) -> None:
        """Take in one more file."""
        turned = [one.orientation for one in header.slices] or [header.plane_of]
        planes = [plane_of(orientation) for orientation in turned if orientation]
        self.plane = self.plane or next(iter(planes), None)
        self.planes.update(planes)
        self.count += max(1, len(header.slices))
        if header.kind is not None:
            self.kinds[header.kind] += 1
        if header.defect is not None:
            self.defects[header.defect] += 1
        if header.fits:
            self.slices += header.slices
            self.folders.add(header.path.parent)
        self.compressed = self.compressed or header.compressed
        self.kept = self.kept or header.kept


@dataclass
class Study:
    """One study: its series by hash, the hashes of its patient and table key, its folders."""

    case: str
    patients: set[str] = field(default_factory=set)
    comparable_hash: str | None = None
    joins: set[str] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)
    series: dict[str, Series] = field(default_factory=dict)

    def add(self, header: Header) -> None:
        """Take in one more file."""
        self.patients |= {header.patient} - {None}  # type: ignore[arg-type]  # None is taken out
        self.comparable_hash = self.comparable_hash or header.comparable_hash
        self.joins |= {header.join} - {None}  # type: ignore[arg-type]  # None is taken out
        self.folders.add(header.path.parent)
        new = Series(header.number, header.shown, header.fits)
        self.series.setdefault(header.series, new).add(header)


@dataclass(frozen=True)
class BadFile:
    """A file that cannot be read: where it stands among all files, and why."""

    path: Path
    number: int
    reason: str


@dataclass
class Scan:
    """What a source holds.

    Attributes:
        studies: By case id, in its order: the hash's, which says nothing about names or dates.
        bad: Files that cannot be read.
        folders: Folders in which images were found.
        ignored: Files that are no images by their kind.
        files: Files in all.
    """

    studies: dict[str, Study] = field(default_factory=dict)
    bad: list[BadFile] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    ignored: int = 0
    files: int = 0


def scan(source: Path, asked: Asked) -> Scan:
    """Read the header of every file below a folder.

    Raises:
        UserError: There is no such folder, or no file in it.
    """
    if not source.is_dir():
        problem = "a file, not a folder of files" if source.exists() else "no such folder"
        raise UserError(f"{source}: {problem}", remedy=_REMEDY)
    paths = sorted(_files(source))
    if not paths:
        raise UserError(f"{source}: an empty folder", remedy=_REMEDY)
    found = Scan(files=len(paths))
    with quiet_pydicom(), Steps("DICOM headers", len(paths)) as steps:
        for number, (path, outcome) in enumerate(_outcomes(paths, asked), start=1):
            if isinstance(outcome, Unreadable):
                found.bad.append(BadFile(path, number, outcome.reason))
            elif outcome is None:
                found.ignored += 1
            else:
                found.folders.add(path.parent)
                found.studies.setdefault(outcome.case, Study(outcome.case)).add(outcome)
            steps.advance()
    found.studies = dict(sorted(found.studies.items()))
    return found


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning: its warnings quote the fields that they are about."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def _files(source: Path) -> Iterator[Path]:
    """Yield every file that is not hidden, in linked folders too, and in no folder twice."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(source, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder) / name for name in names if not name.startswith("."))


def _outcomes(
    paths: Sequence[Path], asked: Asked
) -> Iterator[tuple[Path, Header | Unreadable | None]]:
    """Yield what each file is, in order, a bounded number at a time."""

    def read(path: Path) -> Header | Unreadable | None:
        try:
            return read_header(path, asked)
        except Unreadable as error:
            return error

    remaining = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while batch := list(islice(remaining, _AT_ONCE)):
            yield from zip(batch, pool.map(read, batch), strict=True)
