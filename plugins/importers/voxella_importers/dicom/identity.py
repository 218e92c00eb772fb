"""Identifiers become keyed hashes: only the key's owner can tell whose they are."""

from __future__ import annotations

import stat
from pathlib import Path

from voxella.data.drafts import warn
from voxella.data.keys import keyed_hash, new_key, read_key, write_key
from voxella.errors import UserError
from voxella.progress import print_line

__all__ = ["KEY_FILE", "Identity", "load_identity"]

KEY_FILE = ".voxella-key"
_SHORT = 12  # hexadecimal digits: two of ten thousand studies collide once in six million


class Identity:
    """Hashes identifiers with one key (HMAC-SHA-256).

    Args:
        key: The key.
        unwritten: Where :meth:`keep` writes it; None: it lies in a file already.
    """

    def __init__(self, key: bytes, unwritten: Path | None = None) -> None:
        self._key = key
        self._unwritten = unwritten

    def keep(self) -> None:
        """Write a new key (mode 0600), before anything that was hashed with it is.

        Raises:
            UserError: Another import has made a key there in the meantime.
        """
        if self._unwritten is not None:
            _write(self._unwritten, self._key)
            self._unwritten = None

    def case(self, study: str) -> str:
        """Return the case id of a StudyInstanceUID."""
        # A letter first: a spreadsheet reads digits alone, or 12e34, as a number.
        return f"s{self.digest('study', study)[:_SHORT]}"

    def patient(self, patient: str) -> str:
        """Return what stands for a PatientID."""
        return f"p{self.digest('patient', patient)[:_SHORT]}"

    def digest(self, what: str, value: str) -> str:
        """Return the hash of a value; equal values of different kinds have different hashes."""
        return keyed_hash(self._key, what, value.strip(" " + chr(0)))


def load_identity(key_file: Path | None, out: Path) -> Identity:
    """Read the key, or make one; :meth:`Identity.keep` writes it when the source has been read.

    Args:
        key_file: A key to use again; None: :data:`KEY_FILE` in the folder that holds ``out``, new
            when it is not there.
        out: The data set's folder. The key never lies in it: who gets the data set must not get
            the key.

    Raises:
        UserError: The named key is absent, lies in the data set, or is no key.
    """
    path = key_file or out.parent / KEY_FILE
    if path.resolve().is_relative_to(out.resolve()):
        raise UserError(
            f"key_file: {path} lies in the data set, which may be passed on",
            remedy=f"leave key_file out: it is then {out.parent / KEY_FILE}",
        )
    if key_file is None and not path.exists():
        return Identity(new_key(), path)
    return Identity(_read(path))


def _write(path: Path, key: bytes) -> None:
    try:
        write_key(path, key)
    except FileExistsError:
        raise UserError(
            f"another import has made the key {path} in the meantime; nothing was written",
            remedy="run the same command again: it takes that key",
        ) from None
    print_line(
        f"made the key {path}: it turns patients into hashes. Keep it, and keep it apart from "
        "the data set; with it the same patients get the same hashes again"
    )


def _read(path: Path) -> bytes:
    try:
        key = read_key(
            path, remedy="name another, or remove it and have one made; hashes will then be others"
        )
    except OSError as error:
        raise UserError(
            f"key_file: {path} cannot be read: {error.strerror}",
            remedy="leave key_file out to have a key made beside the data set",
        ) from error
    except UserError as error:
        raise UserError(f"key_file: {error.problem}", remedy=error.remedy) from None
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        warn(f"{path} can be read by others, who can then tell patients: chmod 600 {path}")
    return key
