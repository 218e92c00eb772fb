"""Stage records: what a stage did, from what, and whether that still holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from voxella.files import write_json_atomic
from voxella.hashing import sha256_json
from voxella.provenance import command_line, versions
from voxella.workspace.state import RECORD, StateFile, hashes_of, is_as_written, print_once

__all__ = ["RECORDS", "StageRecord"]


class _Record(TypedDict):
    inputs_sha256: NotRequired[str]
    stage: NotRequired[str]
    inputs: NotRequired[dict[str, Any]]
    facts: NotRequired[dict[str, Any]]
    files: NotRequired[dict[str, str]]
    versions: NotRequired[dict[str, str]]
    command: NotRequired[str]
    seconds: NotRequired[float]


RECORDS: StateFile[dict[str, Any]] = StateFile(
    _Record, "rm {path}, then run its stage again: what it has done already is kept"
)


class StageRecord:
    """One stage's ``stage.json``: written last, so its presence means the stage is complete.

    Args:
        folder: The stage's own folder.
        stage: Its name.
        inputs: Everything that decides the result, as JSON-ready data: the recipe's blocks, hashes
            of earlier records and of weights. Never report text.
    """

    def __init__(self, folder: Path, stage: str, inputs: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.stage = stage
        self.inputs = dict(inputs)
        self.hash = sha256_json(self.inputs)
        self._started = time.monotonic()

    @property
    def path(self) -> Path:
        """Return the record's file."""
        return self.folder / RECORD

    def previous(self) -> dict[str, Any] | None:
        """Return the record on disk, or None when there is none that can be read."""
        return RECORDS.read_or_remake(self.path)

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts of the record on disk; none where there is none."""
        found: dict[str, Any] = (self.previous() or {}).get("facts", {})
        return found

    def is_current(self) -> bool:
        """Return whether the stage ran to its end on exactly these inputs, and its files stand yet.

        A file that is not as the stage wrote it is told, for the stage is then done again.
        """
        previous = self.previous()
        if previous is None or previous.get("inputs_sha256") != self.hash:
            return False
        changed = [n for n in previous.get("files", {}) if not is_as_written(self.folder / n)]
        for name in changed:
            print_once(f"{self.folder / name} is not as {self.stage} wrote it; it is made again")
        return not changed

    def invalidate(self) -> None:
        """Remove the record before work that changes the stage's folder."""
        self.path.unlink(missing_ok=True)

    def complete(self, files: Iterable[str] = (), /, **facts: Any) -> Path:  # noqa: ANN401 - any JSON value
        """Write the record.

        How the stage was called is told too, and decides nothing: it is no input.

        Args:
            files: Names of files in the folder whose content the record vouches for: those that
                are small, and on which numbers or later stages rest.
            facts: Results worth keeping (counts, measured numbers).
        """
        called = command_line()
        return write_json_atomic(
            self.path,
            {
                "stage": self.stage,
                "inputs_sha256": self.hash,
                "inputs": self.inputs,
                "facts": facts,
                "files": hashes_of(self.folder, [self.folder / name for name in files]),
                "versions": versions(),
                **({} if called is None else {"command": called}),
                "seconds": round(time.monotonic() - self._started, 2),
            },
        )
