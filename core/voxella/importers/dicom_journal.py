"""Which volumes are finished already: an import that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path

from voxella.files import append_line, sha256_file
from voxella.importers.dicom_identity import Identity
from voxella.importers.dicom_stack import Stack

__all__ = ["Journal"]

_NAME = ".import-journal.jsonl"
# Goes up when the same files would be written otherwise.
_VERSION = 1


class Journal:
    """Lines of (image, what it was made from, hash of its file), removed when all is done.

    Args:
        out: The data set's folder.
        identity: Hashes what an image is made from: file sizes and times go with nobody's name,
            but they need not be told either.
    """

    def __init__(self, out: Path, identity: Identity) -> None:
        self._out = out
        self._identity = identity
        self._path = out / _NAME
        self._done = self._read()

    def has(self, relative: str, volume: Stack) -> bool:
        """Tell whether the image lies there, unharmed and made from these very files."""
        made_from, digest = self._done.get(relative, ("", ""))
        path = self._out / relative
        same = made_from == self._source(volume) and path.is_file()
        return same and sha256_file(path) == digest

    def add(self, relative: str, volume: Stack) -> None:
        """Note a finished image."""
        line = json.dumps([relative, self._source(volume), sha256_file(self._out / relative)])
        append_line(self._path, line)

    def remove(self) -> None:
        """Remove the journal: the manifest now says what there is."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, tuple[str, str]]:
        done: dict[str, tuple[str, str]] = {}
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        for line in lines:
            try:
                relative, made_from, digest = json.loads(line)
            except ValueError:
                continue  # the line that was being written
            done[relative] = (made_from, digest)
        return done

    def _source(self, volume: Stack) -> str:
        files = [
            (one.uid, one.frame, (stat := one.path.stat()).st_size, stat.st_mtime_ns)
            for one in volume.slices
        ]
        return self._identity.digest("volume", json.dumps([_VERSION, *files]))
