"""Which data set a prepared folder is made from, so that another never takes its place unasked.

``dataset.json`` says where the data set lay and what its images held. The same folder may grow,
shrink and change; another folder is the same data set where it holds the same images, moved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from typing_extensions import TypedDict

from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.workspace.state import StateFile, sealed

__all__ = ["Origin"]

_ORIGIN = "dataset.json"


class _Written(TypedDict):
    folder: str
    from_here: str
    cases: dict[str, str | None]


_ORIGINS: StateFile[_Written] = StateFile(
    _Written,
    "rm {path}, if {folder} is made from the data set that the command names; else another --out",
)


@dataclass(frozen=True)
class Origin:
    """A data set as a prepared folder knows it.

    Attributes:
        folder: Where it lies.
        from_here: The same, seen from the prepared folder: both may be moved together.
        cases: Hash of the images' content by case id; None while it is not known.
    """

    folder: str
    from_here: str
    cases: Mapping[str, str | None]

    @classmethod
    def of(cls, out: Path, dataset: Path, cases: Mapping[str, str | None]) -> Origin:
        """Return the origin of a folder ``out`` that is made from ``dataset``."""
        folder, here = dataset.resolve(), out.resolve()
        return cls(str(folder), os.path.relpath(folder, here), cases)

    @classmethod
    def read(cls, out: Path) -> Origin | None:
        """Return what ``out`` was made from; None where it does not say.

        Raises:
            DamagedError: It cannot be told, and another data set might take its place.
        """
        found = _ORIGINS.read(out / _ORIGIN)
        return None if found is None else cls(**found)

    def write(self, out: Path) -> None:
        """Write it into the prepared folder, unless it stands there."""
        if Origin.read(out) != self:
            write_json_atomic(out / _ORIGIN, sealed(asdict(self)))

    def refuse_another(self, out: Path, prepared: set[str]) -> None:
        """Refuse to put this data set in the place of another.

        Args:
            out: The prepared folder.
            prepared: Its cases, complete ones only: where nothing is done, nothing is lost.

        Raises:
            UserError: Naming the other data set, and how much of it is prepared.
        """
        found = Origin.read(out)
        if found is None or self._same_folder(found):
            return
        gone = [
            case
            for case in found.cases
            if case in prepared
            and (case not in self.cases or self.cases[case] not in (None, found.cases[case]))
        ]
        if gone:
            count = len(prepared & set(found.cases))
            raise UserError(
                f"{out} holds {count} cases of another data set, {found.folder}; {len(gone)} of "
                f"them are not in {self.folder}, or have other images there",
                remedy=f"name another --out or --workspace, or rm -r {out}   (gives them up)",
            )

    def _same_folder(self, other: Origin) -> bool:
        return self.folder == other.folder or self.from_here == other.from_here
