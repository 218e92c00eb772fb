"""The stage `prepare`: resumable, deterministic, and honest about bad cases; on real MRI too."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dying_job import DyingJob
from numpy.typing import NDArray
from tiny_prepare import recipe
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.classification.store import read_image
from voxella.cli import main
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.imaging.volume import read_volume, write_volume
from voxella.imaging.write import write_image
from voxella.preparation import cases as prepare_cases
from voxella.preparation.stage import prepare
from voxella.recipe.model import Intensity, Prepare

SHARED = REPOSITORY.parent / "shared" / "data"
PICAI = SHARED / "picai" / "images"


def dataset(folder: Path, count: int = 4, sequences: tuple[str, ...] = ("t2w",)) -> Path:
    """Noise volumes, each with a label, a report and an extra."""
    (folder / "reports").mkdir(parents=True)
    cases = []
    for number in range(count):
        images = {}
        for k, name in enumerate(sequences):
            array = np.random.default_rng([number, k]).random((12, 11, 5)) * 100
            images[name] = f"images/{number}_{name}.nii.gz"
            write_volume(folder / images[name], array, np.diag([1.0, 1.0, 3.0, 1.0]))
        (folder / "reports" / f"c{number}.txt").write_text("SECRET finding")
        cases.append(
            Case(
                id=f"c{number}",
                group=f"p{number}",
                images=images,
                texts={"report": f"reports/c{number}.txt"},
                texts_sha256={"report": sha256_file(folder / "reports" / f"c{number}.txt")},
                label="positive" if number % 2 else "negative",
                label_source="table",
                split="val" if number == 1 else "train",
                extra={"age": 60 + number},
            )
        )
    Manifest(folder, cases).write()
    return folder


def content(folder: Path) -> dict[str, str]:
    """Hash of every prepared file that other stages read."""
    files = [*folder.glob("images/*"), *folder.glob("cases/*"), folder / "manifest.jsonl"]
    return {str(path.relative_to(folder)): sha256_file(path) for path in files}


def test_a_scale_of_the_source_is_none_of_the_prepared(tmp_path: Path) -> None:
    """A synthetic data set tells what its int16 are divided by; prepared volumes are in [0, 1]."""
    source = Manifest.read(dataset(tmp_path / "raw", count=1))
    known = {"synthetic": True, "int16_scale": 962.0}
    Manifest(source.folder, [c.model_copy(update={"extra": known}) for c in source]).write()
    (case,) = prepare(recipe(), source.folder, tmp_path / "prepared", workers=1)
    assert case.extra["synthetic"] is True
    assert "int16_scale" not in case.extra
    image, _ = read_image(Manifest.read(tmp_path / "prepared"), case, ["t2w"], 3)
    assert 0.5 < float(image.max()) <= 1.0


def test_a_prepared_data_set_is_one_of_its_own(tmp_path: Path) -> None:
    source = dataset(tmp_path / "raw", sequences=("t2w", "adc"))
    out = tmp_path / "prepared"
    manifest = prepare(recipe(("t2w", "adc")), source, out, workers=1)
    assert [case.id for case in Manifest.read(out)] == ["c0", "c1", "c2", "c3"]
    first, second = manifest.cases[:2]
    raw = Manifest.read(source).cases[0]
    assert first.images == {"t2w": "images/c0_t2w.nii.gz", "adc": "images/c0_adc.nii.gz"}
    assert (first.report, first.truth) == (None, None)
    assert first.report_sha256 == raw.report_sha256
    assert (second.label, second.label_source, second.split) == ("positive", "table", "val")
    assert first.extra["age"] == 60
    assert first.extra["spacing_mm"] == [1.0, 1.0, 2.5]
    assert first.extra["padded_mm"] == [0.0, 0.0, 0.0]
    assert first.extra["crop_centre_mm"] == [5.5, 5.0, 6.0]
    assert first.extra["intensity_window"]["adc"] == [0.0, 3000.0]
    assert first.extra["oblique_degrees"] == {"t2w": 0.0, "adc": 0.0}
    assert first.extra["straightened"] is False
    assert "padded_share" not in first.extra
    assert first.extra["source_affine"] == np.diag([1.0, 1.0, 3.0, 1.0]).tolist()
    volume = read_volume(manifest.image_path(first, "adc"))
    assert volume.array.shape == (8, 8, 6)
    assert volume.array.min() >= 0.0
    assert volume.array.max() <= 1.0
    np.testing.assert_allclose(volume.spacing_mm, (1.0, 1.0, 2.5), atol=1e-6)
    record = json.loads((out / "stage.json").read_text())
    assert record["facts"]["cases"] == 4
    everything = "".join(path.read_text() for path in out.rglob("*.json*"))
    assert "SECRET" not in everything


def test_one_process_and_two_write_the_same_bytes(tmp_path: Path) -> None:
    source = dataset(tmp_path / "raw", count=5)
    prepare(recipe(), source, tmp_path / "one", workers=1)
    prepare(recipe(), source, tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(content(tmp_path / "one")) == 11


def test_what_is_up_to_date_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = dataset(tmp_path / "raw"), tmp_path / "prepared"
    before = prepare(recipe(), source, out, workers=1)
    monkeypatch.setattr(prepare_cases.Job, "run", None)  # any call would fail
    again = prepare(recipe(), source, out, workers=1)
    assert again.cases == before.cases
    assert "up to date" in capsys.readouterr().out
    # Touched, not changed: read again, not prepared again.
    os.utime(source / "images" / "0_t2w.nii.gz", (1, 1))
    prepare(recipe(), source, out, workers=1)


def test_only_what_changed_is_done_again(tmp_path: Path) -> None:
    source, out = dataset(tmp_path / "raw"), tmp_path / "prepared"
    prepare(recipe(), source, out, workers=1)

    def facts() -> int:
        return int(json.loads((out / "stage.json").read_text())["facts"]["newly_prepared"])

    assert facts() == 4
    array = np.random.default_rng(9).random((12, 11, 5))
    write_volume(source / "images" / "2_t2w.nii.gz", array, np.eye(4))
    manifest = prepare(recipe(), source, out, workers=1)
    assert facts() == 1
    assert manifest.cases[2].extra["spacing_mm"] == [1.0, 1.0, round(5 / 6, 6)]
    (out / "images" / "c0_t2w.nii.gz").unlink()
    prepare(recipe(), source, out, workers=1)
    assert facts() == 1
    prepare(recipe(interpolation="linear"), source, out, workers=1)
    assert facts() == 4
    # A label changes the manifest, no voxel.
    cases = [c.model_copy(update={"label": None}) for c in Manifest.read(source)]
    Manifest(source, cases).write()
    relabelled = prepare(recipe(interpolation="linear"), source, out, workers=1)
    assert facts() == 0
    assert {case.label for case in relabelled} == {None}


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it."""


def test_a_killed_stage_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = dataset(tmp_path / "raw"), tmp_path / "prepared"
    prepare(recipe(), source, tmp_path / "whole", workers=1)
    calls: list[str] = []
    dies_at = 3

    def dying(path: Path, array: NDArray[Any], affine: NDArray[Any]) -> Path:
        calls.append(path.name)
        if len(calls) == dies_at:
            (path.parent / ".partial-x.nii.gz").write_bytes(b"half")
            raise Killed
        return write_image(path, array, affine)

    monkeypatch.setattr(prepare_cases, "write_image", dying)
    with pytest.raises(Killed):
        prepare(recipe(), source, out, workers=1)
    assert not (out / "stage.json").exists()
    assert not (out / "manifest.jsonl").exists()
    done = {path.name: path.stat().st_mtime_ns for path in (out / "cases").iterdir()}
    assert sorted(done) == ["c0.json", "c1.json"]
    calls.clear()
    dies_at = 0
    prepare(recipe(), source, out, workers=1)
    assert calls == ["c2_t2w.nii.gz", "c3_t2w.nii.gz"]
    assert all((out / "cases" / name).stat().st_mtime_ns == time for name, time in done.items())
    (out / "images" / ".partial-x.nii.gz").unlink()
    assert content(out) == content(tmp_path / "whole")


def spoiled(folder: Path) -> Path:
    """A data set of six with four bad cases."""
    dataset(folder, count=6)
    images = folder / "images"
    (images / "1_t2w.nii.gz").write_bytes((images / "1_t2w.nii.gz").read_bytes()[:300])
    (images / "2_t2w.nii.gz").unlink()
    write_volume(images / "3_t2w.nii.gz", np.full((12, 11, 5), 3.0), np.eye(4))
    cases = list(Manifest.read(folder))
    cases[4] = cases[4].model_copy(update={"images": {"adc": "images/4_t2w.nii.gz"}})
    Manifest(folder, cases).write()
    return folder


def test_every_bad_case_is_named_at_once_and_the_others_are_done(tmp_path: Path) -> None:
    source, out = spoiled(tmp_path / "raw"), tmp_path / "prepared"
    with pytest.raises(UserError) as caught:
        prepare(recipe(), source, out, workers=1)
    message = str(caught.value)
    assert "4 of 6 cases cannot be prepared" in message
    assert "case c1: " in message
    assert "truncated" in message
    assert "2_t2w.nii.gz: no such file" in message
    assert "case c3: t2w: constant inside the crop" in message
    assert "case c4: no image of sequence t2w (there is: adc)" in message
    assert "SECRET" not in message
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        "c0_t2w.nii.gz",
        "c5_t2w.nii.gz",
    ]
    assert not (out / "stage.json").exists()


def test_quarantine_leaves_bad_cases_out_and_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = spoiled(tmp_path / "raw"), tmp_path / "prepared"
    manifest = prepare(recipe(), source, out, workers=1, quarantine=True)
    assert [case.id for case in manifest] == ["c0", "c5"]
    listed = json.loads((out / "quarantine.json").read_text())
    assert [entry["case"] for entry in listed] == ["c1", "c2", "c3", "c4"]
    assert "4 of 6 cases left out" in capsys.readouterr().out
    # Complete with quarantine is not complete without.
    with pytest.raises(UserError, match="4 of 6"):
        prepare(recipe(), source, out, workers=1)
    assert not (out / "quarantine.json").exists()


def test_a_quarantine_stands_until_something_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = spoiled(tmp_path / "raw"), tmp_path / "prepared"
    with pytest.raises(UserError, match="--quarantine"):
        prepare(recipe(), source, out, workers=1, quarantine=None)
    prepare(recipe(), source, out, workers=1, quarantine=True)
    capsys.readouterr()
    manifest = prepare(recipe(), source, out, workers=1, quarantine=None)
    assert [case.id for case in manifest] == ["c0", "c5"]
    said = capsys.readouterr().out
    assert "up to date" in said
    assert "4 of 6 cases left out" in said
    write_volume(source / "images" / "3_t2w.nii.gz", np.random.rand(12, 11, 5), np.eye(4))
    with pytest.raises(UserError, match="3 of 6"):
        prepare(recipe(), source, out, workers=1, quarantine=None)
    manifest = prepare(recipe(), source, out, workers=1, quarantine=True)
    assert [case.id for case in manifest] == ["c0", "c3", "c5"]


def test_the_commands_leave_bad_cases_out_where_they_are_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = spoiled(tmp_path / "raw")
    (source / "reports" / "c2.txt").write_bytes(b"\xff")  # of a case that is left out anyway
    options = ["--profile", "smoke", "--dataset", str(source), "--out", str(tmp_path / "run")]
    command = [str(REPOSITORY / "recipes" / "ccella.yaml"), *options, "--workers", "1"]
    assert main(["prepare", *command]) == 2
    assert "voxella: 4 of 6 cases cannot be prepared" in capsys.readouterr().err
    assert main(["prepare", *command, "--quarantine"]) == 0
    # Later verbs need not be told again.
    assert main(["encode", *command]) == 0
    index = json.loads((tmp_path / "run" / "latents" / "index.json").read_text())
    assert "c5" in json.dumps(index)
    assert "c3" not in json.dumps(index)
    assert main(["prepare", *command]) == 2


def test_a_mask_moves_the_crop_and_is_part_of_what_decides_a_case(tmp_path: Path) -> None:
    source, out = dataset(tmp_path / "raw", sequences=("t2w", "gland")), tmp_path / "out"
    mask = np.zeros((12, 11, 5), np.int16)
    mask[7:10, 5, 2] = 1
    for number in range(4):
        path = source / "images" / f"{number}_gland.nii.gz"
        write_volume(path, mask, np.diag([1.0, 1.0, 3.0, 1.0]))
    around = recipe(crop_around="gland", crop_mm=[6.0, None, None], size=[6, 11, 5])
    manifest = prepare(around, source, out, workers=1)
    assert list(manifest.cases[0].images) == ["t2w"]
    assert manifest.cases[0].extra["crop_centre_mm"] == [7.5, 5.0, 6.0]
    raw = read_volume(source / "images" / "0_t2w.nii.gz").array[5:11]
    low, high = np.percentile(raw, (0, 99.5))
    np.testing.assert_allclose(
        read_volume(manifest.image_path(manifest.cases[0], "t2w")).array,
        np.clip((raw - low) / (high - low), 0, 1),
        atol=1e-6,
    )
    write_volume(source / "images" / "1_gland.nii.gz", mask[::-1], np.diag([1.0, 1.0, 3.0, 1.0]))
    write_volume(source / "images" / "2_gland.nii.gz", 0 * mask, np.diag([1.0, 1.0, 3.0, 1.0]))
    cases = list(Manifest.read(source))
    cases[3] = cases[3].model_copy(update={"images": {"t2w": cases[3].images["t2w"]}})
    Manifest(source, cases).write()
    with pytest.raises(UserError) as caught:
        prepare(around, source, out, workers=1)
    assert "case c2: gland: the mask is empty" in str(caught.value)
    assert "case c3: no image of sequence gland (there is: t2w)" in str(caught.value)
    manifest = prepare(around, source, out, workers=1, quarantine=True)
    assert [c.extra["crop_centre_mm"][0] for c in manifest] == [7.5, 2.5]


def test_a_case_whose_process_dies_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    names = ["a", "b-dies", "c", "d"]
    jobs = [DyingJob(name, {}, None, Prepare(), tmp_path, "", "") for name in names]
    problems = prepare_cases.run_jobs(jobs, workers=2)
    assert list(problems) == ["b-dies"]
    assert "its process died" in problems["b-dies"]


def test_what_nobody_foresaw_is_a_problem_of_its_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strange(path: Path) -> None:
        raise ZeroDivisionError("strange")

    source = dataset(tmp_path / "raw", count=1)
    monkeypatch.setattr(prepare_cases, "read_image", strange)
    with pytest.raises(UserError, match="case c0: ZeroDivisionError: strange"):
        prepare(recipe(), source, tmp_path / "out", workers=1)


def test_settings_that_make_no_sense_are_named_together(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(recipe(size=[8, 8], crop_mm=[0.0], percentiles=(99, 1)), tmp_path, tmp_path)
    message = str(caught.value)
    assert "size has 2 entries and crop_mm 1" in message
    assert "above 0 mm" in message
    assert "do not rise" in message
    flat = recipe(size=[8, 8], crop_mm=[None, None], crop_around="gland", straighten=True)
    with pytest.raises(UserError) as caught:
        prepare(flat, tmp_path, tmp_path)
    assert "nothing is cropped" in str(caught.value)
    assert "straighten: needs three axes" in str(caught.value)


def test_a_rule_for_no_sequence_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = {"T2W": Intensity(window=(0, 80)), "acd": Intensity(window=(0, 3000))}
    source = dataset(tmp_path / "raw", count=1)
    manifest = prepare(recipe(intensity=rules), source, tmp_path / "out", workers=1)
    assert "prepare.intensity: acd is none of data.sequences" in capsys.readouterr().out
    assert manifest.cases[0].extra["intensity_window"] == {"t2w": [0.0, 80.0]}


def test_another_data_set_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "run" / "prepared"
    first = dataset(tmp_path / "first", count=3)
    prepare(recipe(), first, out, workers=1)
    before = content(out)
    # The same ids with another image; fewer of them.
    other = tmp_path / "other"
    shutil.copytree(first, other)
    shutil.copy(other / "images" / "1_t2w.nii.gz", other / "images" / "0_t2w.nii.gz")
    cases = Manifest.read(first).cases
    for kept, gone in ((cases, 1), (cases[1:2], 2)):
        Manifest(other, kept).write()
        words = f"3 cases of another data set, {first}; {gone} of them are not in {other}"
        with pytest.raises(UserError, match=words) as caught:
            prepare(recipe(), other, out, workers=1)
        assert f"rm -r {out}" in str(caught.value)
        assert "another --out" in str(caught.value)
        assert content(out) == before
    shutil.rmtree(out)
    assert len(prepare(recipe(), other, out, workers=1)) == 1


def test_the_same_data_set_may_grow_shrink_change_and_move(tmp_path: Path) -> None:
    out = tmp_path / "run" / "prepared"
    source = dataset(tmp_path / "raw", count=3)
    cases = list(Manifest.read(source))
    Manifest(source, cases[:2]).write()
    assert len(prepare(recipe(), source, out, workers=1)) == 2
    Manifest(source, cases).write()
    assert len(prepare(recipe(), source, out, workers=1)) == 3
    Manifest(source, cases[1:]).write()
    assert len(prepare(recipe(), source, out, workers=1)) == 2
    # Elsewhere, whole and grown, with other settings: the same images.
    Manifest(source, cases).write()
    source.rename(tmp_path / "moved")
    moved = prepare(recipe(interpolation="linear"), tmp_path / "moved", out, workers=1)
    assert len(moved) == 3
    # By another name.
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    Manifest(tmp_path / "moved", cases[:1]).write()
    assert len(prepare(recipe(), tmp_path / "link", out, workers=1)) == 1


def test_where_nothing_is_prepared_yet_another_data_set_may_come(tmp_path: Path) -> None:
    """The first one was the wrong folder: nothing of it could be prepared."""
    wrong, right = dataset(tmp_path / "wrong", count=2), dataset(tmp_path / "right", count=1)
    for image in (wrong / "images").iterdir():
        image.write_text("no image")
    with pytest.raises(UserError, match="no case is left"):
        prepare(recipe(), wrong, tmp_path / "out", workers=1)
    assert len(prepare(recipe(), right, tmp_path / "out", workers=1)) == 1


def test_an_empty_data_set_is_named(tmp_path: Path) -> None:
    Manifest(tmp_path, []).write()
    with pytest.raises(UserError, match="no case in it"):
        prepare(recipe(), tmp_path, tmp_path / "out")


def test_images_of_one_slice(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((16, 16, 1))
    write_volume(tmp_path / "raw" / "a.nii.gz", array, np.eye(4))
    Manifest(tmp_path / "raw", [Case(id="a", group="a", images={"t2w": "a.nii.gz"})]).write()
    flat = recipe(size=[8, 8], crop_mm=[8.0, 8.0])
    manifest = prepare(flat, tmp_path / "raw", tmp_path / "out", workers=1)
    assert manifest.cases[0].extra["spacing_mm"] == [1.0, 1.0]
    assert read_volume(tmp_path / "out" / "images" / "a_t2w.nii.gz").array.shape == (8, 8, 1)


@pytest.mark.skipif(not PICAI.is_dir(), reason=f"real PI-CAI cases absent: {PICAI}")
def test_real_picai_cases(tmp_path: Path) -> None:
    """Against SimpleITK working on the files in their own LPS millimetres."""
    ids = ("11373_1001396", "10795_1000811")
    cases = [
        Case(
            id=case,
            group=case,
            images={
                name: str(PICAI / case.split("_")[0] / f"{case}_{name}.mha")
                for name in ("t2w", "adc", "hbv")
            },
        )
        for case in ids
    ]
    Manifest(tmp_path / "raw", cases).write()
    settings = recipe(("t2w", "adc", "hbv"), crop_mm=[128.0, 128.0, None], size=[64, 64, 32])
    manifest = prepare(settings, tmp_path / "raw", tmp_path / "out", workers=1)
    for case in manifest:
        assert case.extra["spacing_mm"][:2] == [2.0, 2.0]
        assert case.extra["intensity_window"]["adc"] == [0.0, 3000.0]
        assert case.extra["oblique_degrees"]["t2w"] > 1
        for name in ("t2w", "adc", "hbv"):
            image = read_volume(manifest.image_path(case, name)).array
            assert image.shape == (64, 64, 32)
            assert image.min() >= 0.0
            assert image.max() <= 1.0
            assert image.std() > 0.05
    case = manifest.cases[0]
    raw = sitk.ReadImage(str(PICAI / "11373" / "11373_1001396_t2w.mha"), sitk.sitkFloat32)
    # 384 voxels of 0.5 mm: 128 mm are the middle 256.
    crop = sitk.GetArrayFromImage(raw[64:320, 64:320, :])
    assert raw.GetSize() == (384, 384, 19)
    low, high = np.percentile(crop, (0.0, 99.5))
    windowed = sitk.IntensityWindowing(raw, float(low), float(high), 0.0, 1.0)
    spacing = np.array([2.0, 2.0, 19 * raw.GetSpacing()[2] / 32])
    direction = np.array(raw.GetDirection()).reshape(3, 3)
    middle = np.array(raw.TransformContinuousIndexToPhysicalPoint([191.5, 191.5, 9.0]))
    origin = middle - direction @ ((np.array([64, 64, 32]) - 1) / 2 * spacing)
    resampled = sitk.Resample(
        windowed,
        [64, 64, 32],
        sitk.Transform(),
        sitk.sitkLanczosWindowedSinc,
        origin.tolist(),
        spacing.tolist(),
        raw.GetDirection(),
        0.0,
    )
    expected = np.clip(sitk.GetArrayFromImage(resampled).T, 0.0, 1.0)
    ours = read_volume(manifest.image_path(case, "t2w"))
    # LPS to RAS: the first two axes run the other way.
    np.testing.assert_allclose(ours.array, expected[::-1, ::-1], atol=1e-4)
    corner = np.array([*(origin + direction @ (63 * 2.0, 63 * 2.0, 0.0))]) * (-1, -1, 1)
    np.testing.assert_allclose(ours.affine[:3, 3], corner, atol=1e-3)
