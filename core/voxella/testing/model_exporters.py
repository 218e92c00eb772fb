"""What every exporter of models has to hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import torch

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.plugins.contracts import Exported, ModelExporter
from voxella.testing.contract import Contract
from voxella.testing.small_models import SMALL_MODELS, small_model

__all__ = ["ModelExporterContract"]

_PICKLES = {".pt", ".pth", ".ckpt", ".bin"}
Export = tuple[str, Exported, Path, Path]


class ModelExporterContract(Contract):
    """Files under the folder it is given, of every small model that it does not refuse in words."""

    kind: ClassVar[str] = "model_exporters"

    @contextmanager
    def exported(self) -> Iterator[list[Export]]:
        """Export what fits of a few small models; yield name, what came back, model and folder."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            found: list[Export] = []
            refusals: list[str] = []
            for name, blocks in SMALL_MODELS.items():
                model, out = small_model(Path(folder) / name, blocks), Path(folder) / name / "out"
                export: ModelExporter = self.build()
                try:
                    found.append((name, export(model, out), model, out))
                except UserError as refusal:
                    refusals.append(f"{name}: {refusal.problem}")
            assert found, "it refuses every model:\n" + "\n".join(refusals)
            yield found

    def test_files_are_there(self) -> None:
        """It writes at least one file, all of them under the folder it was given."""
        with self.exported() as exports:
            for name, exported, _, out in exports:
                assert exported.files, f"{name}: no file was written"
                for path in exported.files:
                    assert path.is_file(), f"{name}: {path.name} is not there"
                    assert path.is_relative_to(out), f"{name}: {path} is not under the folder given"

    def test_model_is_left_alone(self) -> None:
        """The model folder's files are as they were."""
        with self.exported() as exports, tempfile.TemporaryDirectory() as again:
            for name, _, model, _ in exports:
                first = _hashes(small_model(Path(again) / name, SMALL_MODELS[name]))
                assert _hashes(model) == first, f"{name}: files of the model were changed"

    def test_exporting_twice_gives_the_same_files(self) -> None:
        """Two exports of the same model are equal to the last byte."""
        with self.exported() as one, self.exported() as two:
            for (name, _, _, first), (_, _, _, second) in zip(one, two, strict=True):
                assert _hashes(first) == _hashes(second), f"{name}: two exports differ"

    def test_weights_load_without_running_code(self) -> None:
        """Every file of ``torch.save`` holds tensors and plain types alone."""
        with self.exported() as exports:
            for name, _, _, out in exports:
                for path in (p for p in out.rglob("*") if p.suffix in _PICKLES):
                    try:
                        torch.load(path, weights_only=True)
                    except Exception as error:  # pickle raises anything
                        raise AssertionError(
                            f"{name}: {path.name} cannot be read with weights_only"
                        ) from error


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}
