"""The cases of one data set folder, in either form that a manifest has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from voxella.case.faults import Fault
from voxella.case.lines import MANIFEST, read_lines
from voxella.case.model import Case
from voxella.case.parquet import TABLE, CaseTable, write_table
from voxella.case.texts import REPORT
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.limits import TEXT_BYTES
from voxella.wording import shown_path

__all__ = ["MANY", "Manifest", "manifest_file", "read_cases"]

# Above it a manifest is a table: lines of JSON are read whole, by every process.
MANY = 100_000


class Manifest:
    """The cases of one data set folder, in file order.

    Attributes:
        folder: Where they lie.
        cases: The cases; of a large data set a :class:`CaseTable`, whose rows are read when they
            are asked for.

    Raises:
        UserError: From :meth:`read`, naming every bad line at once.
    """

    def __init__(self, folder: Path, cases: Iterable[Case]) -> None:
        self.folder = Path(folder)
        self.cases: Sequence[Case] = cases if isinstance(cases, CaseTable) else list(cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def split(self, *names: str) -> list[Case]:
        """Return the cases of the named splits, in file order."""
        if isinstance(self.cases, CaseTable):
            return list(self.cases.of(*names))
        return [case for case in self.cases if case.split in names]

    def image_path(self, case: Case, sequence: str) -> Path:
        """Return the absolute path of one sequence of a case."""
        return self.folder / case.images[sequence]

    def read_report(self, case: Case) -> str:
        """Return the report's text, empty when the case has none. Handle it as patient data."""
        return self.read_text(case, REPORT)

    def read_text(self, case: Case, name: str) -> str:
        """Return one text of a case, empty when it has none of that name. It is patient data."""
        if name not in case.texts:
            return ""
        return TEXT_BYTES.read(self.folder / case.texts[name]).decode("utf-8-sig")

    def write(self, *, parquet_above: int | None = MANY) -> Path:
        """Write the manifest atomically, in one form, and return its path.

        Args:
            parquet_above: More cases than these become ``manifest.parquet``, others
                ``manifest.jsonl``; None: always lines.
        """
        path, other = self.folder / MANIFEST, self.folder / TABLE
        if parquet_above is not None and len(self.cases) > parquet_above:
            path, other = other, path
            write_table(path, self.cases)
        else:
            lines = (case.model_dump_json(exclude_none=True) for case in self.cases)
            write_text_atomic(path, "\n".join(lines) + "\n")
        other.unlink(missing_ok=True)
        return path

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and judge the manifest of a folder, in whichever form it is.

        Raises:
            UserError: There is none, or anything is wrong with it: all of that.
        """
        path = _there(Path(folder))
        cases: Sequence[Case]
        if path.name == TABLE:
            cases = CaseTable(path)
            faults = list(cases.faults())
        else:
            cases, faults = read_lines(path)
        if faults:
            raise UserError(
                "\n".join(fault.told(path) for fault in faults),
                remedy="fix these lines, or import again; voxella check tells more",
            )
        return cls(Path(folder), cases)

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """Open the manifest of a folder without looking at every case of a large one.

        A table is opened in seconds and in constant memory; each row is judged when it is asked
        for, and what lies between rows is not: :meth:`read` has done that before. Lines are read.

        Raises:
            UserError: There is none; or, of lines, as :meth:`read`.
        """
        path = _there(Path(folder))
        return cls(Path(folder), CaseTable(path)) if path.name == TABLE else cls.read(folder)


def manifest_file(folder: Path) -> Path | None:
    """Return the manifest of a folder in whichever form it is; None where there is none.

    Raises:
        UserError: There are two.
    """
    there = [path for name in (MANIFEST, TABLE) if (path := folder / name).is_file()]
    if len(there) > 1:
        raise UserError(
            f"{shown_path(folder)} holds {MANIFEST} and {TABLE}; which of them counts?",
            expected="one manifest in a data set",
            remedy="remove the one that is out of date, or import again",
        )
    return there[0] if there else None


def read_cases(folder: Path) -> tuple[list[Case], list[Fault]]:
    """Return the cases that can be read, in file order, and all that is wrong with the manifest.

    Of cases with one id the first is kept.

    Raises:
        UserError: There is no manifest, or it is longer than the limit.
    """
    path = _there(folder)
    if path.name != TABLE:
        return read_lines(path)
    table = CaseTable(path)
    return list(table.sound()), list(table.faults())


def _there(folder: Path) -> Path:
    path = manifest_file(folder)
    if path is None:
        raise UserError(
            f"no data set here: {shown_path(folder / MANIFEST)} does not exist",
            remedy="voxella import NAME SOURCE --out DATASET   (NAME: see voxella plugins)",
        )
    return path
