"""Folders of checkpoints: whole or absent, told from damaged ones, the newest sound one found."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from voxella.engine.runtime import all_gather_object
from voxella.engine.saved_state import FileFacts
from voxella.errors import UserError
from voxella.files import make_folder, publish_folder, remove, sweep
from voxella.hashing import sha256_json
from voxella.machine import raise_if_machine
from voxella.process import PARTIAL, ProcessMark
from voxella.progress import print_line
from voxella.ranks import Ranks

__all__ = ["CheckpointStore", "Marker"]

_COMPLETE = "complete.json"
_SEAL = "sha256"
_NAME = re.compile(r"step-(\d{8})$")
# Hashing less than this takes a second or two.
_QUIET_BYTES = 1 << 30
_T = TypeVar("_T")


@dataclass(frozen=True)
class Marker:
    """What ``complete.json`` says.

    Attributes:
        step: Optimizer steps done.
        facts: JSON-ready, of whoever saved it.
        files: What each file must be, by name.
    """

    step: int
    facts: dict[str, Any]
    files: dict[str, FileFacts] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return it as JSON-ready data, with a hash of itself."""
        files = {name: asdict(facts) for name, facts in sorted(self.files.items())}
        told = {"step": self.step, "facts": self.facts, "files": files}
        return {**told, _SEAL: sha256_json(told)}

    @classmethod
    def read(cls, path: Path) -> Marker | None:
        """Return what a file says; None where it is not as it was written."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop(_SEAL) != sha256_json(told):
                return None
            files = {name: FileFacts(**facts) for name, facts in told["files"].items()}
            return cls(told["step"], told["facts"], files)
        except Exception as error:  # whatever may stand in a damaged file
            raise_if_machine(error, path)
            return None


class CheckpointStore:
    """The checkpoints of one training, each a folder ``step-N``.

    A checkpoint is written under a partial name; when every process is done and all is on the disk,
    ``complete.json`` goes in, with size and hash of every file, and the folder is renamed. A kill
    at any moment, or a crash of the host, leaves the earlier ones whole.

    Args:
        folder: Where they are.
        keep: How many complete ones stay.
        ranks: This process; every process of a job takes part in every call but ``complete``.
    """

    def __init__(self, folder: Path, *, keep: int, ranks: Ranks) -> None:
        self.folder = folder
        self.keep = keep
        self.ranks = ranks
        self._sound: set[Path] = set()
        self._damaged: set[Path] = set()

    def complete(self) -> list[tuple[int, Path]]:
        """Return ``(step, folder)`` of every complete checkpoint, oldest first.

        Those that were found damaged are none.
        """
        found = []
        for path in self.folder.glob("step-*"):
            match = _NAME.search(path.name)
            if match and (path / _COMPLETE).is_file() and path not in self._damaged:
                found.append((int(match[1]), path))
        return sorted(found)

    def newest_facts(self) -> dict[str, Any] | None:
        """Return what was kept with the newest checkpoint that can be read; not collective."""
        for _, path in reversed(self.complete()):
            if (marker := Marker.read(path / _COMPLETE)) is not None:
                return marker.facts
        return None

    def path(self, step: int) -> Path:
        """Return where the checkpoint of a step is or will be."""
        return self.folder / f"step-{step:08d}"

    def begin(self, step: int) -> Path:
        """Return a folder to write the checkpoint of a step into, for every process the same."""
        partial = self.folder / f"{PARTIAL}{self._first(ProcessMark.own())}.{self.path(step).name}"
        if self.ranks.is_main:
            make_folder(self.folder)
            sweep(self.folder)
            remove(partial)
            make_folder(partial)
        self._all_gather_object(None)
        return partial

    def finish(
        self, partial: Path, step: int, facts: dict[str, Any], written: dict[Path, FileFacts]
    ) -> Path:
        """Make what was written the checkpoint of a step.

        Args:
            partial: From :meth:`begin`.
            step: Optimizer steps done.
            facts: JSON-ready, kept with it.
            written: The files that this process has written, and synced: another host's data would
                wait there, whatever the first process asks of its own.
        """
        everyone = self._all_gather_object({path.name: found for path, found in written.items()})
        final = self.path(step)
        if self.ranks.is_main:
            files = {name: found for part in everyone for name, found in part.items()}
            content = Marker(step, facts, files).content()
            publish_folder(partial, final, marker=_COMPLETE, facts=content)
            self._damaged.discard(final)
            self._prune()
        self._all_gather_object(None)
        return final

    def newest(self, accept: Callable[[Path, Marker], None]) -> Marker | None:
        """Return the marker of the newest sound checkpoint, or None where there is none at all.

        One whose files are not what was written is passed over, and named. Every file is read and
        hashed, once: the processes share the work.

        Args:
            accept: Raises where a checkpoint is not to be continued, before its files are read.

        Raises:
            UserError: There are checkpoints, and none is sound.
        """
        problems = []
        for _, path in reversed(self._first(self.complete())):
            marker = self._first(Marker.read(path / _COMPLETE))
            if marker is not None:
                accept(path, marker)
            problem = self._problem(path, marker)
            if marker is not None and problem is None:
                return marker
            self._damaged.add(path)
            problems.append(f"{path} is damaged: {problem}")
            print_line(f"{problems[-1]}; it is passed over", quiet=not self.ranks.is_main)
        if problems:
            raise UserError(
                "no checkpoint is sound, so training cannot go on from one:\n  "
                + "\n  ".join(problems),
                remedy=f"put sound copies there; or rm -r {self.folder} to train from the start",
            )
        return None

    def _problem(self, path: Path, marker: Marker | None) -> str | None:
        """Say what is wrong with a checkpoint's files; None where nothing is."""
        if path in self._sound:
            return None
        if marker is None:
            return f"{_COMPLETE} is not what was written"
        size = sum(found.size for found in marker.files.values())
        quiet = size < _QUIET_BYTES or not self.ranks.is_main
        print_line(f"checking {size / 1e9:.1f} GB of {path}", quiet=quiet)
        names = sorted(marker.files)
        mine = (names[index] for index in self.ranks.share(len(names)))
        found = [
            f"{name} {difference}"
            for name in mine
            if (difference := marker.files[name].difference(path / name)) is not None
        ]
        problems = [problem for part in self._all_gather_object(found) for problem in part]
        if problems:
            return "; ".join(problems)
        self._sound.add(path)
        return None

    def _prune(self) -> None:
        for path in self._damaged:
            remove(path)
        for _, path in self.complete()[: -self.keep]:
            remove(path)

    def _all_gather_object(self, value: _T) -> list[_T]:
        # A stage that one process of a job does alone must not wait for the others.
        return all_gather_object(value) if self.ranks.world > 1 else [value]

    def _first(self, value: _T) -> _T:
        return self._all_gather_object(value)[0]
