"""`voxella export dicom`: read back by pydicom and by SimpleITK, held to the standard's tables."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_writer import assert_same_voxels
from mr_image_iod import TYPE_1, TYPE_2
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom import Dataset, config, dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from small_volumes import oblique

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_image
from voxella.imaging.write import write_image
from voxella_exporters.plugin import dicom

SHAPE = (6, 5, 4)
MODEL = "ab" * 32
MADE = {"synthetic": True, "model": MODEL, "seed": 3, "sampler": "ddim", "steps": 50}
REAL_ID, REAL_PATIENT = "jansen-1962", "MRN0012345"
Floats = NDArray[np.float64]


def whole(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 2000, shape).astype(np.int16)


def build(
    folder: Path, *cases: tuple[dict[str, Any], dict[str, tuple[NDArray[Any], Floats]]]
) -> Manifest:
    folder.mkdir(exist_ok=True)
    made = []
    for fields, images in cases:
        name = fields["id"]
        files = {}
        for sequence, (array, affine) in images.items():
            files[sequence] = f"{name}_{sequence}.nii.gz"
            nib.save(nib.Nifti1Image(array, affine), folder / files[sequence])
        made.append(Case.model_validate({"group": name, "images": files, **fields}))
    Manifest(folder, made).write()
    return Manifest.read(folder)


def synthetic(name: str = "c1-s000", **extra: Any) -> dict[str, Any]:
    return {"id": name, "group": "synthetic-77", "extra": {**MADE, **extra}}


def one(folder: Path, array: NDArray[Any], affine: Floats, **extra: Any) -> Manifest:
    return build(folder, (synthetic(**extra), {"t2w": (array, affine)}))


def read_series(folder: Path) -> list[Dataset]:
    return [dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def itk_volume(folder: Path) -> tuple[NDArray[Any], Floats]:
    """Voxels ``(x, y, z)`` and the affine to RAS mm, as SimpleITK's series reader has them."""
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def ras(array: NDArray[Any], affine: Floats) -> tuple[NDArray[Any], Floats]:
    image = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.float64), affine))
    return image.get_fdata(), image.affine


@pytest.mark.parametrize(
    ("spacing", "codes"),
    [
        ((0.5, 0.6, 3.0), "LPS"),
        ((3.0, 0.5, 0.6), "PIR"),
        ((0.5, 3.0, 0.6), "LIP"),
        ((1.0, 1.0, 1.0), "LPS"),
    ],
    ids=["axial", "sagittal", "coronal", "cubes"],
)
def test_both_readers_find_the_source_again(
    tmp_path: Path, spacing: tuple[float, float, float], codes: str
) -> None:
    array, affine = whole(), oblique(spacing)
    dataset = one(tmp_path / "dataset", array, affine)
    dicom()(dataset, tmp_path / "out")
    folder = tmp_path / "out" / "c1-s000" / "01_t2w"
    assert_same_voxels(sorted(folder.glob("*.dcm")), dataset.image_path(dataset.cases[0], "t2w"))
    voxels, where = itk_volume(folder)
    assert "".join(nib.aff2axcodes(where)) == codes
    found, found_affine = ras(voxels, where)
    wanted, wanted_affine = ras(array, affine)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(found_affine, wanted_affine, atol=1e-4)


def test_every_image_is_what_the_standard_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    dicom()(one(tmp_path / "dataset", whole(), oblique((0.5, 0.6, 3.0))), tmp_path / "out")
    images = read_series(tmp_path / "out" / "c1-s000" / "01_t2w")
    assert len(images) == SHAPE[2]
    for number, data in enumerate(images, start=1):
        for keyword in chain(*TYPE_1.values()):
            assert data.get(keyword) not in (None, "", []), keyword
        for keyword in chain(*TYPE_2.values()):
            assert keyword in data, keyword
        # Every value is read, and so validated against its representation: a bad one raises.
        assert len([element.value for element in data.iterall()]) > 40
        assert data.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert data.SOPClassUID == data.file_meta.MediaStorageSOPClassUID == MRImageStorage
        assert data.InstanceNumber == number
        assert list(data.ImageType)[:2] == ["DERIVED", "SECONDARY"]
        assert data[0x0008001C].value == "YES"
        assert data.ScanningSequence == "RM"
        assert str(data.PatientName) == ""
        assert data.PatientID == "synthetic-77"
        assert MODEL in data.DerivationDescription
        assert "seed 3" in data.DerivationDescription
        assert float(data.SpacingBetweenSlices) == pytest.approx(3.0, abs=1e-6)
    uids = [{data.get(keyword) for data in images} for keyword in (
        "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID",
    )]  # fmt: skip
    assert [len(found) for found in uids] == [1, 1, 1, SHAPE[2]]
    every = set().union(*uids)
    assert len(every) == 3 + SHAPE[2]
    assert all(name.is_valid and name.startswith("2.25.") for name in every)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.dcm"))}


def named(folder: Path) -> tuple[str, str]:
    (row,) = json.loads((folder / "series.json").read_text())
    return row["StudyInstanceUID"], row["SeriesInstanceUID"]


def test_identifiers_follow_from_model_seed_and_id(tmp_path: Path) -> None:
    affine = oblique((0.5, 0.6, 3.0))
    changed = {
        "same": one(tmp_path / "a", whole(), affine),
        "again": one(tmp_path / "b", whole(), affine),
        "seed": one(tmp_path / "c", whole(), affine, seed=4),
        "model": one(tmp_path / "d", whole(), affine, model="cd" * 32),
        "id": one(tmp_path / "e", whole(), affine, name="c1-s001"),
        # A sweep: other steps give other voxels of the same model, seed and id.
        "voxels": one(tmp_path / "f", whole(1), affine),
    }
    for name, dataset in changed.items():
        dicom()(dataset, tmp_path / "out" / name)
    assert files(tmp_path / "out" / "same") == files(tmp_path / "out" / "again")
    found = {name: named(tmp_path / "out" / name) for name in changed}
    assert found["same"] == found["again"]
    for name in ("seed", "model", "id"):
        assert found[name][0] != found["same"][0], name
    assert found["voxels"][0] == found["same"][0]
    assert len({series for _, series in found.values()}) == 5


def test_floats_are_within_half_a_step(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    affine = oblique((0.5, 0.6, 3.0))
    dicom()(one(tmp_path / "dataset", array, affine), tmp_path / "out")
    folder = tmp_path / "out" / "c1-s000" / "01_t2w"
    (row,) = json.loads((tmp_path / "out" / "series.json").read_text())
    first = read_series(folder)[0]
    assert (float(first.RescaleSlope), float(first.RescaleIntercept)) == (
        row["slope"],
        row["intercept"],
    )
    assert row["slope"] == pytest.approx(float(np.ptp(array)) / 65000, rel=1e-6)
    found, _ = ras(*itk_volume(folder))
    wanted, _ = ras(array, affine)
    assert np.abs(found - wanted).max() <= row["slope"] * 0.5001
    assert np.abs(found - wanted).max() > 0
    # [0, 1] of the model is shown from black to white.
    assert (float(first.WindowCenter), float(first.WindowWidth)) == (0.5, 1.0)


def test_a_constant_and_a_single_slice_come_back(tmp_path: Path) -> None:
    affine = oblique((0.5, 0.6, 3.0))
    flat = np.full((6, 5, 1), 0.25, np.float32)
    dicom()(one(tmp_path / "dataset", flat, affine), tmp_path / "out")
    (data,) = read_series(tmp_path / "out" / "c1-s000" / "01_t2w")
    values = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
    np.testing.assert_array_equal(values, 0.25)


def test_a_map_says_its_unit(tmp_path: Path) -> None:
    rule = {"t2w": {"window": [0, 3000], "unit": "1e-6 mm2/s"}}
    dataset = one(tmp_path / "dataset", whole(), oblique((1.0, 1.0, 3.0)), intensity=rule)
    dicom()(dataset, tmp_path / "out")
    first = read_series(tmp_path / "out" / "c1-s000" / "01_t2w")[0]
    assert first.RescaleType == "1e-6 mm2/s"
    assert float(first.WindowWidth) == 3000


def test_nothing_of_a_real_case_but_its_voxels(tmp_path: Path) -> None:
    affine = oblique((0.5, 0.6, 3.0))
    fields = {"group": REAL_PATIENT, "texts": {"report": "r.txt"}}
    dataset = build(
        tmp_path / "dataset",
        ({"id": REAL_ID, **fields}, {"t2w": (whole(0), affine), "adc": (whole(1), affine)}),
        ({"id": "other", "group": "x"}, {"t2w": (whole(2), affine)}),
        (
            {"id": "jansen-1963", **fields},
            {"t2w": (whole(3), affine), "lesion": (whole(4), affine)},
        ),
    )
    exported = dicom()(dataset, tmp_path / "out")
    rows = json.loads((tmp_path / "out" / "series.json").read_text())
    assert [(row["folder"], row["patient"]) for row in rows] == [
        ("P00001-01/01_t2w", "P00001"),
        ("P00001-01/02_adc", "P00001"),
        ("P00002-01/01_t2w", "P00002"),
        ("P00001-02/01_t2w", "P00001"),
    ]
    assert "masks are no MR images and left out: lesion" in "\n".join(exported.remarks)
    for path in (tmp_path / "out").rglob("*"):
        assert "jansen" not in str(path)
        if path.is_file():
            held = path.read_bytes()
            assert not [
                word for word in (b"jansen", REAL_PATIENT.encode(), b"other") if word in held
            ]
    t2w, adc = (read_series(tmp_path / "out" / row["folder"])[0] for row in rows[:2])
    assert t2w[0x0008001C].value == "NO"
    assert t2w.FrameOfReferenceUID == adc.FrameOfReferenceUID
    assert t2w.StudyInstanceUID == adc.StudyInstanceUID
    assert t2w.SeriesInstanceUID != adc.SeriesInstanceUID
    assert (t2w.SeriesNumber, adc.SeriesNumber) == (1, 2)
    assert len({row["StudyInstanceUID"] for row in rows}) == 3


def test_a_group_that_is_no_patient_id_is_hashed(tmp_path: Path) -> None:
    affine = oblique((1.0, 1.0, 3.0))
    long = "synthetic-" + "a" * 100
    dataset = build(tmp_path / "d", ({**synthetic(), "group": long}, {"t2w": (whole(), affine)}))
    dicom()(dataset, tmp_path / "out")
    (row,) = json.loads((tmp_path / "out" / "series.json").read_text())
    assert row["patient"].startswith("synthetic-")
    assert len(row["patient"]) == 42


def test_what_cannot_be_an_mr_series_is_refused(tmp_path: Path) -> None:
    affine = oblique((1.0, 1.0, 3.0))
    hole = np.zeros(SHAPE, np.float32)
    hole[0, 0, 0] = np.inf
    dataset = build(
        tmp_path / "d",
        (synthetic("a"), {"t2w": (whole(), affine)}),
        (synthetic("b"), {"t2w": (hole, affine)}),
        (synthetic("c"), {"t2w": (whole(), affine)}),
    )
    write_image(dataset.folder / "a_t2w.nii.gz", np.zeros((3, *SHAPE), np.float32), affine)
    Pillow.fromarray(np.eye(8, dtype=np.uint8)).save(dataset.folder / "c.png")
    cases = [*dataset.cases[:2], dataset.cases[2].model_copy(update={"images": {"t2w": "c.png"}})]
    with pytest.raises(UserError) as caught:
        dicom()(Manifest(dataset.folder, cases), tmp_path / "out")
    for line in (
        "3 cases cannot be MR series:",
        "t2w is in colours, and MR images are grey: 1 (a)",
        "t2w holds NaN or infinity, which a whole number of 16 bits cannot be: 1 (b)",
        "t2w is a picture without millimetres, which an MR image needs: 1 (c)",
    ):
        assert line in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_line_and_the_way_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array, affine = whole(), oblique((0.5, 0.6, 3.0))
    dataset = one(tmp_path / "dataset", array, affine)
    out = tmp_path / "out"
    command = ["export", "dicom", str(dataset.folder), "--out", str(out)]
    assert main(command) == 0
    assert "1 series of 1 cases, 1 of them synthetic" in capsys.readouterr().out
    assert main(command) == 2
    assert "not overwritten" in capsys.readouterr().err
    back = ["import", "dicom", str(out), "--out", str(tmp_path / "back")]
    rule = "rules={t2w: {description: synthetic}}"
    assert main([*back, "--set", rule]) == 0, capsys.readouterr().err
    (again,) = Manifest.read(tmp_path / "back")
    image = read_image(tmp_path / "back" / again.images["t2w"]).first
    wanted, wanted_affine = ras(array, affine)
    np.testing.assert_array_equal(image.array, wanted)
    np.testing.assert_allclose(image.affine, wanted_affine, atol=1e-4)
