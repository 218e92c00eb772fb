"""What every exporter has to hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import nibabel
import numpy as np

from voxella.case import Case, Manifest
from voxella.hashing import sha256_bytes
from voxella.plugins.contracts import Exported, Exporter
from voxella.testing.contract import Contract

__all__ = ["ExporterContract"]

_REPORT = "A focus of low signal lies in the left peripheral zone. PI-RADS 4."


class ExporterContract(Contract):
    """Files under the folder it is given, twice the same, and no report that was not asked for."""

    kind: ClassVar[str] = "exporters"

    @contextmanager
    def exported(self) -> Iterator[tuple[Exported, Manifest, Path]]:
        """Export three small cases into a new folder; yield what came back, data set and folder."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            dataset = small_dataset(Path(folder) / "dataset")
            out = Path(folder) / "out"
            export: Exporter = self.build()
            yield export(dataset, out), dataset, out

    def test_files_are_there(self) -> None:
        """It writes at least one file, all of them under the folder it was given."""
        with self.exported() as (exported, _, out):
            assert exported.files, "no file was written"
            for path in exported.files:
                assert path.is_file(), f"{path.name} is not there"
                assert path.is_relative_to(out), f"{path} is not under the folder given"

    def test_reports_stay_private(self) -> None:
        """No sentence of a report stands in what is written or remarked, unless it is asked for."""
        with self.exported() as (exported, _, out):
            for path in (path for path in out.rglob("*") if path.is_file()):
                assert _sentence() not in path.read_bytes(), f"{path.name} holds a report"
            said = "\n".join(exported.remarks).encode()
            assert _sentence() not in said, "a remark holds a report"

    def test_dataset_is_left_alone(self) -> None:
        """The data set's files are as they were."""
        with self.exported() as (_, dataset, out):
            again = small_dataset(out.parent / "again")
            names = sorted(p.relative_to(again.folder) for p in again.folder.rglob("*"))
            there = sorted(p.relative_to(dataset.folder) for p in dataset.folder.rglob("*"))
            assert there == names, "files of the data set were added or taken away"
            for name in (name for name in names if (again.folder / name).is_file()):
                same = (dataset.folder / name).read_bytes() == (again.folder / name).read_bytes()
                assert same, f"{name} was changed"

    def test_exporting_twice_gives_the_same_files(self) -> None:
        """Two exports of the same data set have files of the same names."""
        with self.exported() as (first, _, one), self.exported() as (second, _, two):
            names = [path.relative_to(one) for path in first.files]
            assert names == [path.relative_to(two) for path in second.files], (
                "two exports wrote other files"
            )


def small_dataset(folder: Path) -> Manifest:
    """Return three cases of both classes with an image and a report each."""
    folder.mkdir(parents=True)
    cases: list[Case] = []
    for number, (split, label) in enumerate(
        (("train", "negative"), ("train", "positive"), ("test", "positive"))
    ):
        name = f"case-{number}"
        voxels = np.full((4, 4, 3), number + 1, dtype=np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{name}.nii.gz")
        (folder / f"{name}.txt").write_text(_REPORT, encoding="utf-8")
        cases.append(
            Case.model_validate(
                {
                    "id": name,
                    "group": name,
                    "images": {"t2w": f"{name}.nii.gz"},
                    "texts": {"report": f"{name}.txt"},
                    "texts_sha256": {"report": sha256_bytes(_REPORT.encode())},
                    "label": label,
                    "split": split,
                    "extra": {"spacing_mm": [1.0, 1.0, 1.0]},
                }
            )
        )
    manifest = Manifest(folder, cases)
    manifest.write()
    return manifest


def _sentence() -> bytes:
    return _REPORT.partition(".")[0].encode()
