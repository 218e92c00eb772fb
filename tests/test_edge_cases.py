"""Difficult public files end as docs/reference/data.md says: a volume, or a problem by name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from tiny_prepare import recipe
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.imaging.volume import read_volume
from voxella.preparation.stage import prepare

SHARED = REPOSITORY.parent / "shared" / "data"
FOLDERS = {
    "nibabel": SHARED / "nifti_edge_cases" / "nibabel",
    "rnifti": SHARED / "nifti_edge_cases" / "rnifti",
    "simpleitk": SHARED / "nifti_edge_cases" / "simpleitk",
    "torchio": SHARED / "nifti_edge_cases" / "torchio_data",
    "picai": SHARED / "lfs_pointers",
}
needs_shared = pytest.mark.skipif(
    not all(folder.is_dir() for folder in FOLDERS.values()), reason=f"real files absent: {SHARED}"
)


def table() -> dict[str, str]:
    """How each file ends by docs/reference/data.md."""
    ends: dict[str, str] = {}
    for line in (REPOSITORY / "docs" / "reference" / "data.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = re.findall(r"`([^`]*)`", cells[0]) if len(cells) == 3 else []
        for name in (name for name in names if name.split("/")[0] in FOLDERS):
            assert name not in ends, f"{name} is duplicated"
            ends[name] = cells[2]
    return ends


def files() -> dict[str, Path]:
    """The files by the names that the table gives them."""
    return {
        f"{owner}/{path.name}": path
        for owner, folder in FOLDERS.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


VOLUMES = [name for name, end in table().items() if not end.startswith("problem: ")]


def test_the_table_is_there() -> None:
    assert len(table()) > 40
    assert len(VOLUMES) == 12


@needs_shared
def test_every_file_has_a_row_and_every_row_a_file() -> None:
    assert sum(len(list(f.rglob("*"))) > 0 for f in FOLDERS.values()) == len(FOLDERS)
    assert set(files()) == set(table())
    count = sum(path.is_file() for folder in FOLDERS.values() for path in folder.rglob("*"))
    assert count == len(files()), "two files of one name"


@needs_shared
@pytest.mark.parametrize("name", [name for name in table() if name not in VOLUMES])
def test_a_problem_is_named_as_the_table_says(name: str) -> None:
    path = files()[name]
    with pytest.raises(UserError) as caught:
        read_volume(path)
    assert table()[name].removeprefix("problem: ") in caught.value.problem
    assert path.name in caught.value.problem


@needs_shared
@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_is_correct_by_nibabel_and_by_simpleitk(name: str) -> None:
    path = files()[name]
    volume = read_volume(path)
    counts = " x ".join(str(count) for count in volume.array.shape)
    edges = " x ".join(f"{edge:.4g}" for edge in volume.spacing_mm)
    assert table()[name] == f"{counts} voxels of {edges} mm"

    image = nib.load(path)
    flat = image.ndim == 2
    stored = np.asarray(image.dataobj, dtype=np.float32).reshape((*image.shape, 1)[:3])
    canonical = nib.as_closest_canonical(nib.Nifti1Image(stored, image.affine))
    np.testing.assert_allclose(volume.affine, canonical.affine, atol=1e-5)
    np.testing.assert_array_equal(volume.array, np.asarray(canonical.dataobj))

    other = sitk.ReadImage(str(path), sitk.sitkFloat32)
    assert sorted(other.GetSize()) == sorted(image.shape)
    assert sitk.GetArrayFromImage(other).size == volume.array.size
    random = np.random.default_rng(0)
    for _ in range(0 if flat else 25):  # it drops the third direction of a flat image
        index = [int(random.integers(count)) for count in other.GetSize()]
        ras = np.array(other.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        at = np.linalg.solve(volume.affine, (*ras, 1.0))[:3]
        nearest = tuple(np.rint(at).astype(int))
        np.testing.assert_allclose(at, nearest, atol=1e-3)
        # ITK reads NaN as 0.
        ours = np.nan_to_num(volume.array[nearest])
        np.testing.assert_allclose(ours, other.GetPixel(index), rtol=1e-5)


@needs_shared
def test_as_a_data_set_the_volumes_are_prepared_and_the_problems_listed(tmp_path: Path) -> None:
    ids = {name: re.sub(r"[^A-Za-z0-9]", "-", name) for name in table()}
    found = files()
    cases = [Case(id=ids[n], group=ids[n], images={"t2w": str(found[n])}) for n in table()]
    Manifest(tmp_path / "raw", cases).write()
    settings = recipe(crop_mm=[None] * 3, size=[6, 6, 6], interpolation="linear")
    manifest = prepare(settings, tmp_path / "raw", tmp_path / "out", workers=1, quarantine=True)
    # Single slices are volumes that a recipe of three axes has no use for.
    flat = [name for name in VOLUMES if "256 x 256 x 1 voxels" in table()[name]]
    assert len(flat) == 3
    assert {case.id for case in manifest} == {ids[name] for name in VOLUMES if name not in flat}
    for case in manifest:
        array = read_volume(manifest.image_path(case, "t2w")).array
        assert array.shape == (6, 6, 6)
        assert 0 <= array.min() < array.max() <= 1
    listed = {
        entry["case"]: entry["problem"]
        for entry in json.loads((tmp_path / "out" / "quarantine.json").read_text())
    }
    assert len(listed) == len(table()) - len(VOLUMES) + len(flat)
    assert all("one slice (geometry.slices)" in listed[ids[name]] for name in flat)
    for name, end in table().items():
        if name not in VOLUMES:
            assert end.removeprefix("problem: ") in listed[ids[name]]
