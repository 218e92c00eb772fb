"""Prostate158's files, found whatever the tables' paths begin with.

Tables in circulation write ``train/024/t2.nii.gz`` or ``024/t2.nii.gz``, and the images lie below
``train/`` and ``test/`` or not. What both agree on is the case's number and the file's name.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path, PurePosixPath

from voxella.errors import UserError

__all__ = ["CaseFolders"]

# ROOT/024, ROOT/train/024, ROOT/prostate158_train/train/024
_DEPTHS = ("*", "*/*", "*/*/*")


class CaseFolders:
    """The case folders below a folder, by number.

    Args:
        root: The folder; listed once.

    Raises:
        UserError: There is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder")
        self._root = root
        self._folders: dict[int, list[Path]] = defaultdict(list)
        for pattern in _DEPTHS:
            for path in sorted(root.glob(pattern)):
                if path.name.isdecimal() and path.is_dir():
                    self._folders[int(path.name)].append(path)

    def locate(self, number: int, cell: str) -> Path:
        """Return the file of a case that a table's cell names; it may not exist."""
        exact, others = self._candidates(number, cell)
        return exact if exact.is_file() or not others else others[0]

    def twice(self, number: int, cell: str) -> bool:
        """Return whether it is unclear which of several files a cell names."""
        exact, others = self._candidates(number, cell)
        return not exact.is_file() and len(others) > 1

    def _candidates(self, number: int, cell: str) -> tuple[Path, list[Path]]:
        name = PurePosixPath(cell.replace("\\", "/"))
        folders = self._folders.get(number, [])
        others = [path for folder in folders if (path := folder / name.name).is_file()]
        return self._root / name, others
