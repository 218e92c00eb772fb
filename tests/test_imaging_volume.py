"""Reading volumes: geometry against nibabel and SimpleITK, and a named problem for what is bad."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from voxella.errors import UserError
from voxella.imaging.headers import file_parts
from voxella.imaging.volume import read_volume, write_volume


def values(shape: tuple[int, ...] = (9, 7, 5), seed: int = 0) -> NDArray[np.float32]:
    """Float32 values that no two voxels share."""
    order = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return order.reshape(shape).astype(np.float32)


def oblique(
    spacing: tuple[float, ...] = (0.5, 0.75, 3.0),
    degrees: float = 17.0,
    origin: tuple[float, ...] = (-31.0, 12.0, 5.0),
) -> NDArray[np.float64]:
    """A RAS affine turned about the R axis."""
    angle = np.radians(degrees)
    turn = np.array(
        [
            [1, 0, 0],
            [0, np.cos(angle), -np.sin(angle)],
            [0, np.sin(angle), np.cos(angle)],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def itk_image(array: NDArray[Any], ras_affine: NDArray[np.float64]) -> sitk.Image:
    """The same scan in ITK's terms: (z, y, x) arrays and LPS millimetres."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras_affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def save(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> Path:
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array, affine), path)
    else:
        sitk.WriteImage(itk_image(array, affine), str(path), useCompression=True)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
def test_every_format_gives_the_same_volume(tmp_path: Path, name: str) -> None:
    array, affine = values(), oblique()
    volume = read_volume(save(tmp_path / name, array, affine))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array, array)
    # NIfTI keeps its affine in float32.
    np.testing.assert_allclose(volume.affine, affine, atol=2e-6)
    np.testing.assert_allclose(volume.spacing_mm, (0.5, 0.75, 3.0), atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".mha"])
def test_every_voxel_keeps_its_millimetres_however_it_is_stored(
    tmp_path: Path, suffix: str
) -> None:
    """All 48 axis orders and directions, each marked at one voxel whose RAS mm are known."""
    array, affine = values(), oblique()
    marked = (2, 5, 1)
    where_mm = affine @ (*marked, 1)
    for number, (axes, flips) in enumerate(
        itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    ):
        orientation = np.array(list(zip(axes, flips, strict=True)), dtype=float)
        stored = nib.orientations.apply_orientation(array, orientation)
        back = nib.orientations.inv_ornt_aff(orientation, array.shape)
        volume = read_volume(save(tmp_path / f"{number}{suffix}", stored, affine @ back))
        assert volume.array.shape == array.shape
        np.testing.assert_array_equal(volume.array, array)
        found = np.argwhere(volume.array == array[marked])[0]
        np.testing.assert_allclose(volume.affine @ (*found, 1), where_mm, atol=1e-4)


def test_metaimage_geometry_is_simpleitks_own(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mha", values(), oblique())
    image = sitk.ReadImage(str(path))
    volume = read_volume(path)
    for index in [(0, 0, 0), (8, 6, 4), (3, 2, 1)]:
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        ras = lps * (-1, -1, 1)
        voxel = np.linalg.solve(volume.affine, (*ras, 1))[:3]
        nearest = tuple(round(float(v)) for v in voxel)
        np.testing.assert_allclose(voxel, nearest, atol=1e-9)
        assert volume.array[nearest] == image.GetPixel(index)


def test_two_dimensions_and_trailing_ones_become_three(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(values((6, 5)), np.eye(4)), tmp_path / "flat.nii")
    nib.save(nib.Nifti1Image(values((6, 5, 4, 1)), np.eye(4)), tmp_path / "four.nii")
    sitk.WriteImage(sitk.GetImageFromArray(values((5, 6))), str(tmp_path / "flat.mha"))
    assert read_volume(tmp_path / "flat.nii").array.shape == (6, 5, 1)
    assert read_volume(tmp_path / "four.nii").array.shape == (6, 5, 4)
    assert read_volume(tmp_path / "flat.mha").array.shape == (6, 5, 1)


def test_units_other_than_millimetres_are_converted(tmp_path: Path) -> None:
    image = nib.Nifti1Image(values(), np.diag([500.0, 500.0, 3000.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nii").spacing_mm, (0.5, 0.5, 3.0))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert path.name in message
    for word in words:
        assert word in message


def test_detached_voxels_may_be_an_lfs_pointer_or_absent(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mhd", values(), np.eye(4))
    data = file_parts(path)[1]
    assert data.name == "a.zraw"
    data.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match=r"a\.zraw: a Git-LFS pointer"):
        read_volume(path)
    data.unlink()
    refused(path, "the file that should hold its voxels is absent", "a.zraw")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_a_truncated_file_never_becomes_a_volume(tmp_path: Path, name: str, packed: bool) -> None:
    whole = tmp_path / ("whole_" + name)
    if name.startswith("a.nii"):
        save(whole, values((20, 20, 10)), np.eye(4))
    else:
        sitk.WriteImage(itk_image(values((20, 20, 10)), np.eye(4)), str(whole), packed)
    data = whole.read_bytes()
    for share in (0.002, 0.05, 0.5, 0.9, 0.999):
        cut = tmp_path / name
        cut.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(UserError, match=r"a\.(nii|mha|nrrd)"):
            read_volume(cut)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_flipped_bit_in_compressed_voxels_is_noticed(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, values((20, 20, 10)), np.eye(4))
    data = bytearray(path.read_bytes())
    for place in (0.6, 0.75, 0.9):
        damaged = bytearray(data)
        damaged[int(len(data) * place)] ^= 0x10
        path.write_bytes(damaged)
        refused(path, "truncated or damaged")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
def test_a_header_that_claims_terabytes_allocates_nothing(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, values((20, 20, 10)), np.eye(4))
    if name.startswith("a.nii"):
        raw = bytearray(gzip.decompress(path.read_bytes()) if "gz" in name else path.read_bytes())
        raw[40:48] = struct.pack("<4h", 3, 30000, 30000, 3000)
        path.write_bytes(gzip.compress(bytes(raw)) if "gz" in name else bytes(raw))
    else:
        data = path.read_bytes()
        for old in (b"DimSize = 20 20 10", b"sizes: 20 20 10"):
            data = data.replace(old, old.replace(b"20 20 10", b"30000 30000 3000"))
        path.write_bytes(data)
    refused(path, "header claims 30000 x 30000 x 3000", "VOXELLA_MAX_VOXELS")


def test_other_kinds_of_voxels_are_named(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(values() * (1 + 1j), np.eye(4)), tmp_path / "c.nii")
    refused(tmp_path / "c.nii", "complex voxels")
    sitk.WriteImage(sitk.GetImageFromArray(values((4, 5, 6, 3)), isVector=True), tmp_path / "v.mha")
    refused(tmp_path / "v.mha", "colour (RGB) or vector voxels")
    sitk.WriteImage(sitk.Image([3, 4, 5, 2], sitk.sitkFloat32), tmp_path / "4.nrrd")
    refused(tmp_path / "4.nrrd", "4D image (3 x 4 x 5 x 2)")
    nib.save(nib.Nifti1Image(np.full((3, 4, 5), np.nan, np.float32), np.eye(4)), tmp_path / "n.nii")
    refused(tmp_path / "n.nii", "no finite value")


def test_names_and_places_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "no.nii", "no such file")
    (tmp_path / "d.nii").mkdir()
    refused(tmp_path / "d.nii", "a folder")
    (tmp_path / "e.nii").touch()
    refused(tmp_path / "e.nii", "the file is empty")
    (tmp_path / "t.mha").write_text("Case,Age\n1,2\n")
    refused(tmp_path / "t.mha", "no MetaImage header")
    (tmp_path / "t.gif").write_text("x")
    refused(tmp_path / "t.gif", "expected: .nii.gz, .nii, .mha")


def test_git_lfs_pointers_and_foreign_formats_are_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "p.mha").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    refused(tmp_path / "p.mha", "Git-LFS pointer", "git lfs pull")
    for name, words in (
        ("a.DCM", "voxella import dicom"),
        ("a.hdr", "nib-convert"),
        ("a.mgz", "FreeSurfer"),
        ("a.par", "parrec2nii"),
        ("a.svs", "voxella import wsi"),
        ("a.webp", "save it as PNG"),
    ):
        (tmp_path / name).write_bytes(b"x")
        refused(tmp_path / name, "not an image format that is read", words, "expected: .nii.gz")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("sizeof_hdr", 347, "no NIfTI header"),
        ("magic", b"ni1", "not a single-file NIfTI"),
        ("dim", [0] * 8, "claims 0 axes"),
        ("dim", [3, 9, 0, 5, 1, 1, 1, 1], "an axis without voxels"),
        ("datatype", 77, "unknown kind 77"),
        ("datatype", 0, "unknown kind 0"),
        ("vox_offset", 0, "cannot begin at byte 0"),
        ("vox_offset", np.nan, "cannot begin at byte nan"),
        ("sform_code", 9, "sform_code is 9"),
        ("sform_code", 0, "left and right cannot be told apart"),
        ("xyzt_units", 5, "unknown code 5"),
        ("srow_x", [np.inf, 0, 0, 0], "affine is not finite"),
        ("srow_x", [1e4, 0, 0, 0], "a voxel of 10000 x 0.75 x 3 mm"),
    ],
)
def test_nifti_headers_are_not_repaired_but_named(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    image = nib.Nifti1Image(values(), np.diag([0.5, 0.75, 3.0, 1.0]))
    image.header["vox_offset"] = 352
    image.header["magic"] = b"n+1"
    image.header[field] = value
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + values().tobytes(order="F"))
    refused(path, words)


def test_what_a_header_may_leave_out(tmp_path: Path) -> None:
    """A qfac of 0 stands for 1; a flat image has no thickness and need not say where it lies."""
    image = nib.Nifti1Image(values((6, 5)), None)
    image.header["vox_offset"], image.header["magic"] = 352, b"n+1"
    image.header["pixdim"] = [0, 2, 3, 0, 0, 0, 0, 0]
    path = tmp_path / "flat.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + values((6, 5)).tobytes(order="F"))
    assert read_volume(path).spacing_mm.tolist() == [2, 3, 1]
    image.header["qform_code"], image.header["quatern_d"] = 1, 1
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + values((6, 5)).tobytes(order="F"))
    volume = read_volume(path)
    # Half a turn about S: both axes of the plane run the other way.
    np.testing.assert_array_equal(volume.array[..., 0], values((6, 5))[::-1, ::-1])


def test_affines_without_meaning_are_named(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.3
    singular = np.diag([1.0, 1.0, 0.0, 1.0])
    for name, affine, words in (("s", sheared, "sheared affine"), ("0", singular, "no extent")):
        image = nib.Nifti1Image(values(), np.eye(4))
        image.header.set_sform(affine, code=1)
        image.header.set_qform(None, code=0)
        path = tmp_path / f"{name}.nii"
        path.write_bytes(image.header.binaryblock + b"\0" * 4 + values().tobytes(order="F"))
        header = bytearray(path.read_bytes())
        header[108:112] = struct.pack("<f", 352)
        path.write_bytes(header)
        refused(path, words)


def test_written_volumes_say_where_they_are_twice_and_are_the_same_bytes(tmp_path: Path) -> None:
    array, affine = values(), oblique()
    for name in ("a.nii", "a.nii.gz"):
        path = write_volume(tmp_path / name, array, affine)
        first = path.read_bytes()
        assert write_volume(path, array, affine).read_bytes() == first
        image = nib.load(path)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(image.header.get_sform(), affine, atol=1e-5)
        np.testing.assert_allclose(image.header.get_qform(), affine, atol=1e-5)
        assert image.get_data_dtype() == np.float32
        # The second reader of this project agrees on every voxel and every millimetre.
        other = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, array)
        np.testing.assert_allclose(np.array(other.GetOrigin()) * (-1, -1, 1), affine[:3, 3])
    assert not list(tmp_path.glob(".partial*"))


def test_integers_are_int16_or_refused(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "i.nii.gz", np.arange(24).reshape(2, 3, 4), np.eye(4))
    assert nib.load(path).get_data_dtype() == np.int16
    with pytest.raises(UserError, match="int16"):
        write_volume(tmp_path / "big.nii", np.full((2, 2, 2), 40000), np.eye(4))
    with pytest.raises(UserError, match="written as NIfTI"):
        write_volume(tmp_path / "a.mha", values(), np.eye(4))
