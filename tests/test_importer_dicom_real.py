"""Importer `dicom` on real prostate MR: seven series of one study, and one without a slice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from dicom_writer import assert_same_voxels
from pydicom import dcmread
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_volume
from voxella_importers.dicom.plugin import dicom

DATA = REPOSITORY.parent / "shared" / "data" / "prostatex_dicom"
STUDY = DATA / "ProstateX-0000"
LACKING = DATA / "ProstateX-missing-slice"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data: {DATA} is absent")

# sequence -> (start of the series' folder, voxels, mm between slices)
SERIES = {
    "t2w": ("4.", (384, 384, 19), 3.0),
    "adc": ("7.", (84, 128, 19), 3.0),
    "hbv": ("8.", (84, 128, 19), 3.0),
    "sag": ("3.", (320, 320, 19), 3.6),
    "cor": ("5.", (320, 320, 15), 3.0),
}


def files(start: str) -> list[Path]:
    (folder,) = STUDY.glob(f"*/{start}*")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Case]:
    out = tmp_path_factory.mktemp("dicom") / "out"
    words = ["import", "dicom", str(STUDY), "--out", str(out)]
    for word in (f"sequences=[{', '.join(SERIES)}]", "val_share=0", "test_share=0"):
        words += ["--set", word]
    assert main(words) == 0
    manifest = Manifest.read(out)
    (case,) = manifest
    return manifest, case


@pytest.mark.parametrize("sequence", SERIES)
def test_each_sequence_is_its_series(imported: tuple[Manifest, Case], sequence: str) -> None:
    manifest, case = imported
    start, shape, gap = SERIES[sequence]
    path = manifest.image_path(case, sequence)
    assert_same_voxels(files(start), path)
    volume = read_volume(path)
    assert nib.aff2axcodes(volume.affine) == ("R", "A", "S")
    if sequence in ("t2w", "adc", "hbv"):
        assert volume.array.shape == shape
        assert volume.spacing_mm[2] == pytest.approx(gap, rel=1e-5)
    assert sorted(nib.load(path).shape) == sorted(shape)


def test_nothing_of_the_headers_is_left(imported: tuple[Manifest, Case]) -> None:
    manifest, case = imported
    text = (manifest.folder / "manifest.jsonl").read_text()
    header = dcmread(files("4.")[0], stop_before_pixels=True)
    assert re.fullmatch(r"s[0-9a-f]{12}", case.id)
    assert re.fullmatch(r"p[0-9a-f]{12}", case.group)
    assert case.extra == {}
    for keyword in ("PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate"):
        assert str(header[keyword].value) not in text


@pytest.mark.parametrize("b_value", [50, 800])
def test_one_b_value_of_the_diffusion_series(tmp_path: Path, b_value: int) -> None:
    rules: Any = {"dwi": {"description": "DYNDIST$", "b_value": b_value}}
    manifest = dicom(source=STUDY, rules=rules, val_share=0, test_share=0)(tmp_path / "out")
    wanted = f"*ep_b{b_value}t"
    slices = [f for f in files("6.") if dcmread(f).SequenceName == wanted]
    assert len(slices) == 19
    assert_same_voxels(slices, manifest.image_path(manifest.cases[0], "dwi"))


@pytest.mark.parametrize(
    ("source", "rule", "words"),
    [
        (STUDY, {"description": "DYNDIST$"}, "DYNDIST'): several b-values (50, 400, 800)"),
        (STUDY, {"description": "DYNDIST$", "b_value": 1000}, "there are 50, 400, 800"),
        (STUDY, {"description": "t2_tse"}, "3 series fit its rule: series 3 (sagittal, 19 images"),
        (LACKING, {"description": "BVAL"}, "1 missing slice: a gap of 6 mm after slice 13 of 18"),
        (LACKING, {"description": "t2"}, "no series fits its rule by description: series 8"),
        (DATA, {"description": "BVAL"}, "series 8 (axial, 37 images, 'ep2d_diff_tra_DYNDIST"),
        (DATA, {"description": "BVAL"}, "18 duplicate slices"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, source: Path, rule: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        dicom(source=source, rules={"wanted": rule})(tmp_path / "out")
    assert words in str(caught.value)
    assert "ProstateX" not in str(caught.value)


def test_the_missing_slice_ends_as_the_documentation_says(tmp_path: Path) -> None:
    rules: Any = {"wanted": {"description": "BVAL"}}
    table = (REPOSITORY / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    (end,) = re.findall(r"`prostatex/ProstateX-missing-slice` .*problem: (.*) \|$", table, re.M)
    with pytest.raises(UserError) as caught:
        dicom(source=LACKING, rules=rules)(tmp_path / "out")
    assert end in str(caught.value)
