"""The cases of one data set folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from voxella.case.lines import MANIFEST, read_cases
from voxella.case.model import Case
from voxella.case.texts import REPORT
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.limits import TEXT_BYTES

__all__ = ["Manifest"]


class Manifest:
    """The cases of one data set folder, in file order.

    Raises:
        UserError: From :meth:`read`, naming every bad line at once.
    """

    def __init__(self, folder: Path, cases: Iterable[Case]) -> None:
        self.folder = Path(folder)
        self.cases = list(cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def split(self, *names: str) -> list[Case]:
        """Return the cases of the named splits, in file order."""
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

    def write(self) -> Path:
        """Write ``manifest.jsonl`` atomically and return its path."""
        lines = [case.model_dump_json(exclude_none=True) for case in self.cases]
        return write_text_atomic(self.folder / MANIFEST, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.jsonl``.

        Raises:
            UserError: There is none, or anything is wrong with it: all of that.
        """
        path = Path(folder) / MANIFEST
        cases, faults = read_cases(Path(folder))
        if faults:
            raise UserError(
                "\n".join(fault.told(path) for fault in faults),
                remedy="mend these lines, or import again; voxella check tells more",
            )
        return cls(Path(folder), cases)
