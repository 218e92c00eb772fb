"""What every source of released networks has to hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest

import torch
from safetensors.torch import save_file
from torch import Tensor

from voxella.errors import UserError
from voxella.hashing import sha256_bytes
from voxella.plugins.released import PARTS, Released, Source
from voxella.testing.contract import Contract

__all__ = ["SourceContract"]


class SourceContract(Contract):
    """A damaged file is a message, no code in it runs, and what is read is what is declared.

    Attributes:
        file: A small file of the kind that the source reads. Without one the suite writes a file of
            tensors that no release has; where the source refuses it, the checks that read are
            skipped.
    """

    kind: ClassVar[str] = "sources"
    file: ClassVar[Path | None] = None

    def source(self) -> Source:
        """Build the source."""
        made: Source = self.build()
        return made

    @contextmanager
    def given(self) -> Iterator[Path]:
        """Yield a file for the source to read, one of its own where none was named."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            path = Path(folder) / "weights.safetensors"
            save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, path)
            yield self.file or path

    def read(self, path: Path, source: Source | None = None) -> Released:
        """Return what a source reads; skip the check where it refuses a file of no release."""
        try:
            return (source or self.source()).read(path)
        except UserError as refusal:
            if self.file is not None:
                raise
            raise SkipTest(f"it refuses a file of no release: {refusal}") from None

    def test_attributes_describe_it(self) -> None:
        """Parts is a frozenset of known parts; the licence None, or one plain line."""
        made = self.source()
        assert isinstance(made.parts, frozenset), "parts has to be a frozenset"
        assert made.parts, "parts is empty"
        unknown = set(made.parts) - set(PARTS)
        assert not unknown, f"parts names {unknown}, expected of {', '.join(PARTS)}"
        if made.licence is not None:
            assert made.licence.strip(), "licence is empty: None says that it limits nothing"
            assert len(made.licence.splitlines()) == 1, "licence has several lines"

    def test_a_missing_file_is_a_message(self) -> None:
        """A file that is not there is a UserError that names it."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            self._refuses(Path(folder) / "absent.pt")

    def test_a_damaged_file_is_a_message(self) -> None:
        """Bytes that are no weights are a UserError that names the file."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            for name in ("weights.pt", "weights.safetensors"):
                path = Path(folder) / name
                path.write_bytes(bytes(range(256)))
                self._refuses(path)

    def test_code_in_a_file_does_not_run(self) -> None:
        """A file that would run code when it is unpickled is refused, and the code does not run."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            path, ran = Path(folder) / "weights.pt", Path(folder) / "ran"
            torch.save({"state_dict": {"weight": _Touches(ran)}}, path)
            try:
                self.source().read(path)
            except UserError:
                pass
            finally:
                assert not ran.exists(), "code of the file ran: load with weights_only"

    def test_it_reads_what_it_declares(self) -> None:
        """Each part that it returns is declared, and is tensors by name on the CPU."""
        with self.given() as path:
            released, declared = self.read(path), self.source().parts
        assert released.parts, "no part was read"
        more = set(released.parts) - set(declared)
        assert not more, f"it returns {more}, which it does not declare"
        for part, state in released.parts.items():
            assert state, f"{part} has no tensor"
            for name, tensor in state.items():
                assert isinstance(tensor, Tensor), f"{part}: {name} is no tensor"
                assert tensor.device.type == "cpu", f"{part}: {name} lies on {tensor.device}"

    def test_reading_is_deterministic(self) -> None:
        """Two readings give the same tensors."""
        with self.given() as path:
            # One source: building another would seed torch anew.
            made = self.source()
            first, second = self.read(path, made), self.read(path, made)
        assert _names(first) == _names(second), "two readings give other names"
        for part, state in first.parts.items():
            for name, tensor in state.items():
                same = torch.equal(tensor, second.parts[part][name])
                assert same, f"two readings give other values of {part}: {name}"

    def test_file_is_left_alone(self) -> None:
        """The file is as it was."""
        with self.given() as path:
            before = _hashes(path)
            self.read(path)
            assert _hashes(path) == before, "reading changed the file"

    def _refuses(self, path: Path) -> None:
        refusal = None
        try:
            self.source().read(path)
        except UserError as error:
            refusal = str(error)
        assert refusal is not None, f"{path.name} was read without a word"
        assert str(path) in refusal, f"the refusal does not name the file: {refusal}"


class _Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.ran,)


def _names(released: Released) -> dict[str, list[str]]:
    return {part: sorted(state) for part, state in released.parts.items()}


def _hashes(path: Path) -> list[str]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [sha256_bytes(file.read_bytes()) for file in files if file.is_file()]
