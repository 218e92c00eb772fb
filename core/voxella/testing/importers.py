"""What every importer has to hold."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from voxella.case import MANIFEST, Case, Manifest
from voxella.testing.contract import Contract

__all__ = ["ImporterContract"]


class ImporterContract(Contract):
    """A data set folder whose manifest is valid, whose files are readable, twice the same.

    Importers read from somewhere, so most need arguments (``arguments = {"source": ...}``).
    """

    kind: ClassVar[str] = "importers"
    small: ClassVar[Mapping[str, Any]] = {
        "cases": 4,
        "size": [40, 40, 16],
        "spacing_mm": [4.0, 4.0, 6.0],
        "slides": 3,
        "tiles": 2,
        "pixels": 48,
    }

    @contextmanager
    def imported(self) -> Iterator[Manifest]:
        """Run the importer into a temporary folder and yield the manifest it returned."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            run: Callable[[Path], Manifest] = self.build()
            yield run(Path(folder) / "dataset")

    def test_manifest_is_valid(self) -> None:
        """The manifest that is returned is the one on disk, and it has cases."""
        with self.imported() as manifest:
            assert len(manifest) > 0, "no case was imported"
            read = Manifest.read(manifest.folder)
            assert read.cases == manifest.cases, "manifest.jsonl and what was returned differ"

    def test_images_are_readable(self) -> None:
        """Every image of every case opens, has at least two axes, and is finite."""
        with self.imported() as manifest:
            for case in manifest:
                assert case.images, f"case {case.id} has no image"
                for sequence in case.images:
                    voxels = read_voxels(manifest.image_path(case, sequence))
                    assert voxels.ndim >= 2, f"case {case.id}: {sequence} has shape {voxels.shape}"
                    assert np.isfinite(voxels).all(), f"case {case.id}: {sequence} is not finite"

    def test_reports_are_whole_and_stay_private(self) -> None:
        """A text's hash fits its file; none of its sentences stands in the manifest."""
        with self.imported() as manifest:
            text = (manifest.folder / MANIFEST).read_text(encoding="utf-8")
            for case in manifest:
                for name, file in case.texts.items():
                    data = (manifest.folder / file).read_bytes()
                    assert hashlib.sha256(data).hexdigest() == case.texts_sha256.get(name), (
                        f"case {case.id}: texts_sha256 does not fit its {name} file"
                    )
                    told = manifest.read_text(case, name)
                    sentences = [part.strip() for part in told.replace("\n", ".").split(".")]
                    leaked = any(len(part) > 20 and part in text for part in sentences)
                    # The sentence itself is patient data: name the case only.
                    assert not leaked, f"case {case.id}: the manifest repeats its {name}"

    def test_importing_twice_gives_the_same(self) -> None:
        """Two runs with the same arguments give the same manifest, voxels and reports."""
        with self.imported() as first, self.imported() as second:
            assert first.cases == second.cases, "two runs gave two manifests"
            for case in first:
                assert same_files(first, second, case), f"two runs differ in case {case.id}"


def same_files(first: Manifest, second: Manifest, case: Case) -> bool:
    """Return whether a case has equal voxels and equal texts in two data sets."""
    voxels = all(
        np.array_equal(
            read_voxels(first.image_path(case, sequence)),
            read_voxels(second.image_path(case, sequence)),
        )
        for sequence in case.images
    )
    return voxels and all(
        first.read_text(case, name) == second.read_text(case, name) for name in case.texts
    )


def read_voxels(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """Read an image's voxels: NIfTI with nibabel, a shard's row with our reader, else SimpleITK.

    SimpleITK refuses NIfTI files whose axes are not quite orthogonal, which scanners do write.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel

        return np.asanyarray(nibabel.load(path).dataobj)
    from voxella.imaging.shards import row_of

    if row_of(path) is not None:
        from voxella.imaging.volume import read_image

        return read_image(path).array
    import SimpleITK

    return np.asarray(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
