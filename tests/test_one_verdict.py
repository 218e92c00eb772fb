"""Reading, checking and preparing judge an image by the same rules: made inputs, one verdict."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from broken_dataset import AFFINE, BrokenDataset, all_defects, scan, write_nifti
from numpy.typing import NDArray
from small_volumes import itk_image, noise, oblique
from tiny_prepare import recipe
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.check.catalogue import CATALOGUE
from voxella.check.quick import case_headers, read_leniently
from voxella.check.settings import CaseImages, CheckSettings
from voxella.check.stage import check
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.geometry import Grid, centred_grid, values_at
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import Volume, read_volume
from voxella.preparation.stage import prepare
from voxella.recipe.model import Intensity, Recipe

# Of these, reading the manifest refuses, or training: tested where they are refused.
NOT_OF_A_CASE = ("manifest", "split", "duplicate", "report", "label", "site", "condition")
USER_CASES = REPOSITORY.parent / "shared" / "data" / "user_cases"
BIG: dict[str, Any] = {"crop_mm": [128.0, 128.0, None], "size": [8, 8, 8]}


def verdicts(folder: Path, asked: Recipe, tmp_path: Path) -> tuple[dict[str, set[str]], set[str]]:
    """Errors of the check by case, and the cases that preparing puts in quarantine."""
    errors: dict[str, set[str]] = {}
    for finding in check(folder, asked, out=tmp_path / "check", workers=1, quiet=True).findings:
        of_images = finding.code.split(".")[0] not in NOT_OF_A_CASE
        if finding.severity == "error" and of_images and finding.case is not None:
            errors.setdefault(finding.case, set()).add(finding.code)
    prepare(asked, folder, tmp_path / "prepared", workers=1, quarantine=True)
    listed = tmp_path / "prepared" / "quarantine.json"
    return errors, {entry["case"] for entry in json.loads(listed.read_text())}


def readable(folder: Path, copy: Path) -> Path:
    """The cases whose lines can be read, all in one split."""
    cases = [case for case in read_leniently(folder)[0] if ".." not in str(case.images)]
    manifest = read_leniently(folder)[0]
    Manifest(
        copy,
        [
            case.model_copy(
                update={
                    "split": "train",
                    "report": None,
                    "images": {name: str(manifest.image_path(case, name)) for name in case.images},
                }
            )
            for case in cases
        ],
    ).write()
    return copy


@pytest.mark.parametrize("sequences", [("t2w",), ("t2w", "hbv")])
def test_an_error_of_the_check_is_what_prepare_refuses(
    sequences: tuple[str, ...], tmp_path: Path
) -> None:
    folder = readable(all_defects(tmp_path / "broken").folder, tmp_path / "dataset")
    errors, refused = verdicts(folder, recipe(sequences, **BIG), tmp_path)
    assert refused == errors.keys()
    codes = set().union(*errors.values())
    assert codes <= {code for code, kind in CATALOGUE.items() if kind.severity == "error"}
    if sequences == ("t2w",):
        seldom = {"geometry.no-scan", "geometry.no-overlap", "mask.crop", "image.units"}
        seldom |= {"image.grey"}  # of a recipe in colours
        kinds = {c for c in CATALOGUE if c.split(".")[0] not in NOT_OF_A_CASE}
        known = {c for c in kinds if CATALOGUE[c].severity == "error"}
        assert codes == known - seldom
    else:
        assert "geometry.no-overlap" in codes


def test_masks_and_single_slices_get_one_verdict_too(tmp_path: Path) -> None:
    data = BrokenDataset(tmp_path / "dataset")
    middle = np.zeros((24, 24, 12), np.uint8)
    middle[10:14, 10:14, 4:8] = 1
    aside = np.eye(4)
    aside[:3, 3] = 5000
    masks = {
        "good": data.image("middle.nii.gz", middle),
        "empty": data.image("empty_mask.nii.gz", np.zeros_like(middle)),
        "away": data.image("away.nii.gz", middle, AFFINE @ aside),
        "lost": "images/nowhere.nii.gz",
    }
    for name, path in masks.items():
        data.case(name, more={"gland": path})
    data.case("none")
    data.write()
    around = recipe(crop_around="gland", crop_mm=[100.0, 100.0, None], size=[8, 8, 8])
    errors, refused = verdicts(data.folder, around, tmp_path)
    assert refused == errors.keys() == {"empty", "away", "lost", "none"}
    flat = BrokenDataset(tmp_path / "flat")
    flat.case("flat", make=lambda p, a: write_nifti(p, scan(1, (24, 24, 1)), AFFINE))
    flat.case("thick")
    flat.write()
    errors, refused = verdicts(
        flat.folder, recipe(crop_mm=[128.0, 128.0], size=[8, 8]), tmp_path / "2d"
    )
    assert refused == errors.keys() == {"thick"}
    assert errors["thick"] == {"geometry.slices"}


def test_a_mask_off_the_middle_lets_a_small_sequence_be(tmp_path: Path) -> None:
    """Where the crop is centred on a mask, the middle of the scan decides no overlap."""
    data = BrokenDataset(tmp_path / "dataset")
    mask = np.zeros((24, 24, 12), np.uint8)
    mask[20:23, 20:23, 4:8] = 1
    corner = AFFINE.copy()
    corner[:3, 3] = (110.0, 110.0, 0.0)
    small = data.image("corner_hbv.nii.gz", scan(5, (5, 5, 12)), corner)
    data.case("small", more={"gland": data.image("gland.nii.gz", mask), "hbv": small})
    data.case("none")
    data.write()
    around = recipe(("t2w", "hbv"), crop_around="gland", crop_mm=[36.0, 36.0, None], size=[6, 6, 6])
    errors, refused = verdicts(data.folder, around, tmp_path)
    assert refused == errors.keys() == {"none"}


@pytest.mark.skipif(not USER_CASES.is_dir(), reason=f"no user cases: {USER_CASES} is absent")
@pytest.mark.parametrize(
    ("case", "codes"),
    [
        ("03-all-padding", {"geometry.no-scan", "geometry.slices"}),
        ("04-check-error-is-prepared", {"geometry.no-orientation", "geometry.spacing"}),
    ],
)
def test_no_user_case_is_prepared_that_the_check_calls_an_error(
    case: str, codes: set[str], tmp_path: Path
) -> None:
    folder = USER_CASES / case
    lines = (folder / "t.csv").read_text().split()[1:]
    entries = [
        {"id": name, "group": name, "images": {"t2w": str(folder / file)}}
        for name, file in (line.split(",") for line in lines)
    ]
    (tmp_path / "dataset").mkdir()
    written = "\n".join(json.dumps(entry) for entry in entries)
    (tmp_path / "dataset" / "manifest.jsonl").write_text(written)
    asked = recipe(crop_mm=[128.0, 128.0, 96.0], size=[64, 64, 32])
    found = check(tmp_path / "dataset", asked, workers=1, quiet=True).findings
    errors = {f.case: f.code for f in found if f.severity == "error"}
    assert errors.keys() == {entry["id"] for entry in entries}
    assert {f.code for f in found if f.severity == "error"} == codes
    with pytest.raises(UserError) as caught:
        prepare(asked, tmp_path / "dataset", tmp_path / "out", workers=1)
    for entry in entries:
        assert f"case {entry['id']}: " in str(caught.value)
    assert all(f"({code})" in str(caught.value) for code in codes)
    assert not list((tmp_path / "out").glob("images/*"))


META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "0 0 0",
    "ElementSpacing": "2 2 3",
    "DimSize": "8 8 6",
    "ElementType": "MET_SHORT",
}
NRRD: dict[str, str | None] = {
    "type": "short",
    "dimension": "3",
    "space dimension": None,
    "space": "left-posterior-superior",
    "sizes": "8 8 6",
    "space directions": "(2,0,0) (0,2,0) (0,0,3)",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(0,0,0)",
}
VOXELS = np.arange(384, dtype="<i2").tobytes()


def meta(path: Path, **changed: str | None) -> Path:
    fields = {**META, **changed}
    text = "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None)
    path.write_bytes(f"{text}ElementDataFile = LOCAL\n".encode() + VOXELS)
    return path


def nrrd(path: Path, **changed: str | None) -> Path:
    fields = {**NRRD, **{key.replace("_", " "): value for key, value in changed.items()}}
    text = "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None)
    path.write_bytes(f"NRRD0004\n{text}\n".encode() + VOXELS)
    return path


def both_say(path: Path) -> str | None:
    """The code by which reading refuses a file; the check has to name it, too."""
    headers = case_headers(CaseImages("a", {"t2w": path}, frozenset(), "t2w"), ASKED)
    found = {finding.code for finding in headers.findings if finding.severity == "error"}
    try:
        read_volume(path)
        code = None
    except ImageError as error:
        code = error.code
    assert (code in found) if code is not None else (found == set())
    return code


ASKED = CheckSettings.to_prepare(["t2w"], recipe(crop_mm=[None] * 3).prepare)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, None),
        ({"TransformMatrix": None}, "geometry.no-orientation"),
        ({"TransformMatrix": None, "AnatomicalOrientation": "RAI"}, "geometry.no-orientation"),
        ({"TransformMatrix": None, "Orientation": "1 0 0 0 1 0 0 0 1"}, None),
        ({"ElementSpacing": None}, "geometry.spacing"),
        ({"ElementSpacing": None, "ElementSize": "2 2 3"}, None),
        ({"ElementSpacing": "2 2 0"}, "geometry.spacing"),
        ({"ElementSpacing": "2 -2 3"}, "geometry.spacing"),
        ({"ElementSpacing": "2 nan 3"}, "geometry.spacing"),
        ({"ElementSpacing": "2 2 inf"}, "geometry.spacing"),
        ({"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, "geometry.affine"),
        ({"TransformMatrix": "0 0 0 0 0 0 0 0 0"}, "geometry.affine"),
        ({"TransformMatrix": "1 0 0 0.6 0.8 0 0 0 1"}, "geometry.sheared"),
        ({"DistanceUnits": "um"}, "geometry.units"),
        ({"DistanceUnits": "mm"}, None),
    ],
)
def test_a_metaimage_has_to_say_where_its_voxels_lie(
    changed: dict[str, str | None], code: str | None, tmp_path: Path
) -> None:
    assert both_say(meta(tmp_path / "a.mha", **changed)) == code


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, None),
        ({"space": "RAS"}, None),
        ({"space": None, "space_dimension": "3"}, "geometry.no-orientation"),
        ({"space": "scanner-xyz"}, "geometry.no-orientation"),
        ({"space": "3D-right-handed"}, "geometry.no-orientation"),
        (
            {"space": None, "space_directions": None, "space_origin": None, "spacings": "2 2 3"},
            "geometry.no-orientation",
        ),
        (
            {"space": None, "space_directions": None, "space_origin": None, "spacings": "2 2 -3"},
            "geometry.spacing",
        ),
        ({"space": None, "space_directions": None, "space_origin": None}, "geometry.spacing"),
        ({"space_directions": "(2,0,0) (0,0,0) (0,0,3)"}, "geometry.spacing"),
        ({"space_directions": "none none none"}, "geometry.spacing"),
        (
            {"space_directions": "(2,0,0) (0,2,0) none", "kinds": "domain domain domain"},
            "geometry.spacing",
        ),
        ({"space": None}, "image.damaged"),  # by the format, directions need a space
        ({"space_directions": "(2,0,0) (nan,nan,nan) (0,0,3)"}, "geometry.spacing"),
        ({"space_directions": "(2,0,0) (1,2,0) (0,0,3)"}, "geometry.sheared"),
        ({"space_units": '"um" "um" "um"'}, "geometry.units"),
        ({"space_units": '"mm" "mm" "mm"'}, None),
    ],
)
def test_an_nrrd_has_to_say_where_its_voxels_lie(
    changed: dict[str, str | None], code: str | None, tmp_path: Path
) -> None:
    assert both_say(nrrd(tmp_path / "a.nrrd", **changed)) == code


def test_a_header_that_says_nothing_is_told_so_at_once(tmp_path: Path) -> None:
    path = meta(tmp_path / "a.mha", TransformMatrix=None, ElementSpacing=None, DistanceUnits="um")
    headers = case_headers(CaseImages("a", {"t2w": path}, frozenset(), "t2w"), ASKED)
    kinds = ["geometry.units", "geometry.spacing", "geometry.no-orientation"]
    assert [finding.code for finding in headers.findings] == kinds
    with pytest.raises(ImageError) as caught:
        read_volume(path)
    for words in ("counts in 'um'", "how large a voxel is", "how it lies in the scanner"):
        assert words in caught.value.problem


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("pixdim", [1, 2, 2, 0, 0, 0, 0, 0], "geometry.spacing"),
        ("pixdim", [1, 2, -2, 3, 0, 0, 0, 0], "geometry.spacing"),
        ("pixdim", [1, 2, np.nan, 3, 0, 0, 0, 0], "geometry.spacing"),
        ("sform_code", 0, "geometry.no-orientation"),
        ("srow_y", [0, np.nan, 0, 0], "geometry.affine"),
        ("srow_y", [0, 0, 0, 0], "geometry.affine"),
        ("srow_y", [1, 2, 0, 0], "geometry.sheared"),
        ("xyzt_units", 1, "geometry.affine"),  # metres: a voxel of 2 m
        ("xyzt_units", 4, "geometry.units"),
        ("xyzt_units", 0, None),
    ],
)
def test_a_nifti_has_to_say_where_its_voxels_lie(
    field: str, value: int | list[float], code: str | None, tmp_path: Path
) -> None:
    image = nib.Nifti1Image(noise((8, 8, 6)), np.diag([2.0, 2.0, 3.0, 1.0]))
    image.header["vox_offset"] = 352
    image.header["magic"] = b"n+1"
    image.set_sform(image.affine, 1)
    image.set_qform(None, 0)
    image.header[field] = value
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + b"\0" * 4 + noise((8, 8, 6)).T.tobytes())
    assert both_say(path) == code


def test_units_are_converted_as_simpleitk_converts_them(tmp_path: Path) -> None:
    for unit, scale in (("meter", 1e-3), ("micron", 1e3), ("mm", 1.0)):
        image = nib.Nifti1Image(noise((8, 8, 6)), np.diag([2.0 * scale, 2 * scale, 3 * scale, 1]))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "a.nii")
        spacing = sitk.ReadImage(str(tmp_path / "a.nii")).GetSpacing()
        np.testing.assert_allclose(read_volume(tmp_path / "a.nii").spacing_mm, spacing, rtol=1e-5)
        np.testing.assert_allclose(spacing, (2.0, 2.0, 3.0), rtol=1e-5)
        assert both_say(tmp_path / "a.nii") is None


def test_every_code_that_reading_and_preparing_raise_is_a_kind_of_the_check() -> None:
    raised: set[str] = set()
    for path in (REPOSITORY / "core" / "voxella" / "imaging").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                given = [k.value for k in node.keywords if k.arg == "code"] + node.args
                words = [str(w.value) for w in given if isinstance(w, ast.Constant)]
                raised |= {w for w in words if w.startswith(("image.", "geometry.", "mask."))}
    assert len(raised) > 12
    assert {code: CATALOGUE[code].severity for code in raised} == dict.fromkeys(raised, "error")


@pytest.mark.parametrize("degrees", [(0.0, 0.0), (12.0, -7.0)])
def test_what_the_grid_sees_is_what_simpleitk_samples(degrees: tuple[float, float]) -> None:
    """Nearest voxels of a grid that reaches beyond the scan, against SimpleITK's resampling."""
    volume = Volume(noise((9, 8, 7)) + 1, oblique((1.0, 1.5, 3.0), degrees))
    grid = centred_grid(volume, [14.0, 9.0, None], [11, 6, 5], straighten=True)
    target = itk_image(np.zeros(grid.shape, np.float32), grid.affine)
    sampled = sitk.Resample(
        itk_image(volume.array, volume.affine), target, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    there: NDArray[np.float32] = sitk.GetArrayFromImage(sampled).T
    # SimpleITK leaves 0 outside; every voxel of the scan is above 1.
    np.testing.assert_array_equal(values_at(volume, grid), there[there > 0])
    assert 0 < (there > 0).sum() < there.size


def test_a_grid_that_steps_over_the_scan_is_no_volume(tmp_path: Path) -> None:
    """Two slices of 1 mm in a box of 96 mm on an even number of slices: none lies in the scan."""
    data = BrokenDataset(tmp_path / "dataset")
    thin = np.diag([6.0, 6.0, 1.0, 1.0])
    data.case("thin", make=lambda p, a: write_nifti(p, scan(1, (24, 24, 2)), thin))
    data.case("sound")

    # Its only contrast lies in a slice that no prepared voxel sees.
    def hidden(path: Path, array: NDArray[np.int16]) -> None:
        dark = np.zeros((24, 24, 12), np.int16)
        dark[:, :, 0] = array[:, :, 0]
        write_nifti(path, dark, AFFINE)

    data.case("hidden", make=hidden)
    data.write()
    asked = recipe(crop_mm=[128.0, 128.0, 120.0], size=[8, 8, 2])
    errors, refused = verdicts(data.folder, asked, tmp_path)
    assert errors == {"thin": {"geometry.no-scan"}, "hidden": {"image.constant-crop"}}
    assert refused == errors.keys()
    known = [c.extra.get("padded_share") for c in Manifest.read(tmp_path / "prepared")]
    assert known == [None]


def test_a_measured_map_of_one_value_is_no_image(tmp_path: Path) -> None:
    """In a fixed window no percentiles show that nothing is there."""
    data = BrokenDataset(tmp_path / "dataset")
    data.case("sound")
    data.case("one", make=lambda path, array: write_nifti(path, np.full_like(array, 1500)))
    data.write()
    adc = scan(7).astype(np.float32)
    data.case("good-adc", more={"adc": data.image("good_adc.nii.gz", adc)})
    data.case("units", more={"adc": data.image("units_adc.nii.gz", adc / 1e6)})
    data.case("one-adc", more={"adc": data.image("one_adc.nii.gz", 0 * adc + 900)})
    data.write()
    errors, refused = verdicts(data.folder, recipe(("t2w", "adc"), **BIG), tmp_path / "adc")
    assert refused == errors.keys() == {"sound", "one", "units", "one-adc"}
    assert errors["units"] == {"image.units"}
    rule = Intensity(window=(0.0, 3000.0), percentiles=None)
    asked = recipe(**BIG, intensity={"t2w": rule})
    errors, refused = verdicts(data.folder, asked, tmp_path)
    assert refused == errors.keys() == {"one"}


def test_the_whole_grid_is_seen_where_a_glance_shows_nothing() -> None:
    array = np.zeros((16, 16, 16), np.float32)
    array[1, 2, 3] = 1.0
    grid = Grid((16, 16, 16), np.eye(4))
    assert values_at(Volume(array, np.eye(4)), grid, 4).max() == 0.0
    assert values_at(Volume(array, np.eye(4)), grid).max() == 1.0


def test_a_scan_in_two_splits_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same voxels, stored in another order and format; the check finds the same pair."""
    data = BrokenDataset(tmp_path / "dataset")
    leak = scan(911)
    back = AFFINE @ np.diag([-1.0, 1.0, 1.0, 1.0])
    back[0, 3] = 6.0 * 23
    data.case("one", make=lambda p, a: write_nifti(p, leak), label="negative")
    data.case(
        "two", make=lambda p, a: write_nifti(p, leak[::-1], back), split="test", suffix=".nii"
    )
    data.case("other")
    data.write()
    base = str(REPOSITORY / "recipes" / "base.yaml")
    given = ["--dataset", str(data.folder), "--out", str(tmp_path / "run"), "--workers", "1"]
    # Nothing is tested on what is only prepared.
    assert main(["prepare", base, "--profile", "smoke", *given]) == 0
    capsys.readouterr()
    assert main(["train", base, "--profile", "smoke", *given]) == 2
    said = capsys.readouterr().err
    assert "(duplicate.across-splits)" in said
    assert "case one: t2w: the same voxels as two t2w in test" in said
    assert "case two: t2w: the same voxels as one t2w in train" in said
    assert "other" not in said
    assert not (tmp_path / "run" / "latents").exists()
    found = check(data.folder, workers=1, quiet=True).findings
    assert {f.case for f in found if f.code == "duplicate.across-splits"} == {"one", "two"}
