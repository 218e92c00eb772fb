"""The phantom as a data set on disk: files, manifest, resuming, processes, pictures."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from voxella.case import Manifest
from voxella.data.importing import import_dataset
from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.plugins.contracts import Importer
from voxella_importers.phantom.picture import montage
from voxella_importers.phantom.plugin import phantom
from voxella_importers.phantom.truth import LABELS, read_truth


def small(cases: int, *, workers: int = 1, missing_reports: float = 0.25) -> Importer:
    return phantom(
        cases=cases,
        workers=workers,
        missing_reports=missing_reports,
        size=[44, 40, 16],
        spacing_mm=[2.2, 2.2, 5.0],
        oblique_share=0.5,
    )


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom")
    small(8)(out)
    return out


def _digests(folder: Path, cases: int) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for number in range(cases)
        for path in sorted(folder.rglob(f"phantom-{number:05d}*"))
    }


def test_manifest_reads_and_every_file_is_there(data_set: Path) -> None:
    manifest = Manifest.read(data_set)
    assert len(manifest) == 8
    assert {case.split for case in manifest} == {"train", "val", "test"}
    assert sum(case.report is None for case in manifest) in {1, 2, 3}
    for case in manifest:
        assert case.label_source == "phantom"
        assert case.truth is not None
        truth = read_truth(data_set / case.truth)
        assert (truth.id, truth.patient, truth.label) == (case.id, case.group, case.label)
        told = {"age": truth.age, "psa": truth.psa, "volume": truth.gland.volume_ml}
        assert case.conditions == told
        assert manifest.image_path(case, "t2w").is_file()
        if case.report is None:
            assert not (data_set / "reports" / f"{case.id}.txt").exists()
            continue
        report = data_set / case.report
        assert stat.S_IMODE(report.stat().st_mode) == 0o600
        assert hashlib.sha256(report.read_bytes()).hexdigest() == case.report_sha256
        assert manifest.read_report(case).strip()


def test_no_report_text_outside_the_reports(data_set: Path) -> None:
    manifest = Manifest.read(data_set)
    elsewhere = (data_set / "manifest.jsonl").read_text() + "".join(
        path.read_text() for path in (data_set / "truth").glob("*.json")
    )
    for case in manifest:
        for sentence in manifest.read_report(case).split(". "):
            assert len(sentence) < 12 or sentence not in elsewhere


def test_two_libraries_agree_on_the_geometry(data_set: Path) -> None:
    oblique = 0
    for case in Manifest.read(data_set):
        path = data_set / case.images["t2w"]
        ours = nib.load(path)
        theirs = sitk.ReadImage(str(path))
        assert ours.get_data_dtype() == np.int16
        assert nib.aff2axcodes(ours.affine) == ("R", "A", "S")
        assert int(ours.header["sform_code"]) == int(ours.header["qform_code"]) == 1
        assert ours.get_qform() == pytest.approx(ours.get_sform(), abs=1e-3)
        assert theirs.GetSpacing() == pytest.approx(ours.header.get_zooms(), abs=1e-4)
        for index in ([0, 0, 0], [43, 39, 15], [10, 20, 5]):
            ras = ours.affine @ [*index, 1.0]
            lps = theirs.TransformIndexToPhysicalPoint(index)
            assert [-lps[0], -lps[1], lps[2]] == pytest.approx(ras[:3], abs=1e-3)
        oblique += abs(ours.affine[2, 1]) > 0.05
        labels = nib.load(data_set / "truth" / f"{case.id}_labels.nii.gz")
        assert labels.affine == pytest.approx(ours.affine)
        assert set(np.unique(labels.dataobj)) <= set(LABELS.values())
    assert 1 <= oblique <= 7


def test_sides_in_a_second_library(data_set: Path) -> None:
    # SimpleITK's world is LPS: x grows to the patient's LEFT.
    checked = 0
    for case in Manifest.read(data_set):
        truth = read_truth(data_set / str(case.truth))
        if len(truth.lesions) != 1:
            continue
        statistics = sitk.LabelShapeStatisticsImageFilter()
        statistics.Execute(sitk.ReadImage(str(data_set / "truth" / f"{case.id}_labels.nii.gz")))
        x = statistics.GetCentroid(LABELS["lesion"])[0]
        lesion = truth.lesions[0]
        assert x == pytest.approx(-lesion.centre_mm[0], abs=3.0)
        assert {"right": x < 0, "left": x > 0, "midline": abs(x) < 4}[lesion.side]
        checked += 1
    assert checked >= 2


def test_case_k_is_the_same_whatever_the_count(data_set: Path, tmp_path: Path) -> None:
    manifest = small(2)(tmp_path)
    assert _digests(tmp_path, 2) == _digests(data_set, 2)
    assert manifest.cases == Manifest.read(data_set).cases[:2]


def test_processes_change_nothing(data_set: Path, tmp_path: Path) -> None:
    manifest = small(8, workers=2)(tmp_path)
    assert _digests(tmp_path, 8) == _digests(data_set, 8)
    assert manifest.cases == Manifest.read(data_set).cases


def test_a_data_set_is_the_same_whoever_made_it(tmp_path: Path) -> None:
    def asked(**more: int) -> Manifest:
        block = {"name": "phantom", "cases": 2, "size": [44, 40, 16], "spacing_mm": [2.2, 2.2, 5]}
        return import_dataset(Component.model_validate(block | more), tmp_path / "dataset")

    assert [case.id for case in asked(workers=2)] == [case.id for case in asked(workers=1)]
    with pytest.raises(UserError, match="made by other importer settings"):
        asked(seed=1)


def test_whole_cases_are_kept_and_harmed_ones_made_again(tmp_path: Path) -> None:
    importer = small(3, missing_reports=0.0)
    importer(tmp_path)
    before = _digests(tmp_path, 3)
    images = [tmp_path / f"images/phantom-{n:05d}_t2w.nii.gz" for n in range(3)]
    times = [path.stat().st_mtime_ns for path in images]
    images[1].write_bytes(b"cut off")
    (tmp_path / "reports/phantom-00002.txt").unlink()
    importer(tmp_path)
    assert _digests(tmp_path, 3) == before
    assert images[0].stat().st_mtime_ns == times[0]
    assert images[1].stat().st_mtime_ns != times[1]
    assert images[2].stat().st_mtime_ns != times[2]


def test_other_settings_make_the_cases_again(tmp_path: Path) -> None:
    small(1, missing_reports=0.0)(tmp_path)
    before = _digests(tmp_path, 1)
    manifest = small(1, missing_reports=1.0)(tmp_path)
    # The image is the same, and the report that the case no longer has is gone.
    image = "images/phantom-00000_t2w.nii.gz"
    assert _digests(tmp_path, 1)[image] == before[image]
    assert manifest.cases[0].report is None
    assert not (tmp_path / "reports/phantom-00000.txt").exists()


def test_progress_is_plain_lines_where_there_is_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(2)(tmp_path)
    (shown,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"phantom cases 2/2, took \d+:\d\d", shown)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    target.write_text("")
    with pytest.raises(UserError, match="taken is a file, not a folder"):
        small(1)(target)


def test_truth_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_truth(tmp_path / "absent.json")
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"id": "x"}))
    with pytest.raises(UserError, match="not the truth of a phantom case"):
        read_truth(other)


def test_the_picture_shows_the_cases(data_set: Path, tmp_path: Path) -> None:
    target = montage(data_set, tmp_path / "p.png", count=2)
    with Image.open(target) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[1] > 300
    assert pixels.std() > 30


def test_the_entry_point_imports_nothing_heavy() -> None:
    code = (
        "import sys, voxella_importers.phantom.plugin;"
        "print([m for m in ('torch', 'numpy', 'scipy', 'nibabel', 'monai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
