"""`voxella export nnunet`: held to nnU-Net's own rules, restated, and to itself where installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from nnunet_rules import assert_nnunet, read_nnunet
from numpy.typing import NDArray
from small_volumes import itk_image, oblique

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_volume
from voxella.imaging.write import write_image
from voxella_exporters.plugin import nnunet

SHAPE = (6, 5, 4)
AFFINE = oblique((0.5, 0.6, 3.0))
SECRET = "A focus in the left peripheral zone"


def scan(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(SHAPE).astype(np.float32)


def mask(*values: int) -> NDArray[np.int16]:
    array = np.zeros(SHAPE, np.int16)
    for place, value in enumerate(values):
        array[place, 1:3, 2] = value
    return array


def save(path: Path, array: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mha":
        sitk.WriteImage(itk_image(array.astype(np.float32), affine), str(path))
    else:
        nib.save(nib.Nifti1Image(array, affine), path)
    return path.name


def build(folder: Path, cases: list[dict[str, Any]]) -> Manifest:
    """Arrays by image name become files, others fields of the case."""
    folder.mkdir(exist_ok=True)
    (folder / "report.txt").write_text(SECRET)
    made = []
    for number, fields in enumerate(cases):
        name = fields.get("id", f"p{number}")
        images = {}
        for image, array in fields.pop("images").items():
            ending = ".mha" if image == "adc" else ".nii.gz"
            given = array if isinstance(array, tuple) else (array,)
            images[image] = save(folder / f"{name}-{image}{ending}", *given)
        rest = {"id": name, "group": name, "images": images, "texts": {"report": "report.txt"}}
        made.append(Case.model_validate({**rest, **fields}))
    dataset = Manifest(folder, made)
    dataset.write()
    return Manifest.read(folder)


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Three training cases, one of them for validation, and a test case without a mask."""
    return build(
        tmp_path / "dataset",
        [
            {"images": {"t2w": scan(0), "adc": scan(10), "lesion": mask(2, 5)}},
            {"images": {"t2w": scan(1), "adc": scan(11), "lesion": mask()}},
            {"images": {"t2w": scan(2), "adc": scan(12), "lesion": mask(3)}, "split": "val"},
            {"images": {"t2w": scan(3), "adc": scan(13)}, "split": "test"},
        ],
    )


def test_nnunet_would_take_it(dataset: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "Dataset501_TEST"
    exported = nnunet(dataset_name="prostate")(dataset, out)
    assert list(assert_nnunet(out)) == ["p0", "p1", "p2"]
    told = json.loads((out / "dataset.json").read_text())
    assert told["channel_names"] == {"0": "t2w", "1": "adc"}
    assert told["labels"] == {"background": 0, "lesion_2": 1, "lesion_3": 2, "lesion_5": 3}
    assert told["name"] == "prostate"
    assert sorted(path.name for path in (out / "imagesTs").iterdir()) == [
        "p3_0000.nii.gz",
        "p3_0001.nii.gz",
    ]
    assert not (out / "labelsTs").exists()
    assert json.loads((out / "splits_final.json").read_text()) == [
        {"train": ["p0", "p1"], "val": ["p2"]}
    ]
    assert [path.name for path in exported.files] == ["splits_final.json", "dataset.json"]
    assert "of the mask's values 2 is 1, 3 is 2, 5 is 3" in "\n".join(exported.remarks)


def test_voxels_and_place_are_those_of_the_source(dataset: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nnunet()(dataset, out)
    for number, case in enumerate(dataset):
        part = "Ts" if case.split == "test" else "Tr"
        for channel, name in enumerate(("t2w", "adc")):
            path = out / f"images{part}" / f"{case.id}_{channel:04d}.nii.gz"
            written, source = nib.load(path), read_volume(dataset.image_path(case, name))
            np.testing.assert_array_equal(written.get_fdata(dtype=np.float32), source.array)
            np.testing.assert_allclose(written.affine, source.affine, atol=1e-5)
            # As drawn, whichever way the file's axes run.
            np.testing.assert_allclose(
                np.sort(source.array, None), np.sort(scan(number + 10 * channel), None)
            )
    labels, _, _ = read_nnunet(out / "labelsTr" / "p0.nii.gz")
    assert {int(value): int((labels == value).sum()) for value in np.unique(labels)} == {
        0: labels.size - 4, 1: 2, 3: 2,
    }  # fmt: skip


def test_nnunet_itself_takes_it(dataset: Manifest, tmp_path: Path) -> None:
    theirs = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")
    out = tmp_path / "Dataset501_TEST"
    nnunet()(dataset, out)
    theirs.verify_dataset_integrity(str(out), num_processes=1)


def test_labels_by_name_join_values(dataset: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    nnunet(labels={"low": 2, "high": [3, 4, 5]})(dataset, out)
    assert_nnunet(out)
    assert json.loads((out / "dataset.json").read_text())["labels"] == {
        "background": 0, "low": 1, "high": 2,
    }  # fmt: skip
    labels, _, _ = read_nnunet(out / "labelsTr" / "p2.nii.gz")
    assert np.unique(labels).tolist() == [0, 2]
    with pytest.raises(UserError, match=r"the mask holds 5, which has no name in labels: 1 \(p0\)"):
        nnunet(labels={"low": 2, "high": 3})(dataset, tmp_path / "other")


def test_a_mask_of_ones_is_called_by_its_name(tmp_path: Path) -> None:
    images = {"t2w": scan(0), "gland": mask(1)}
    dataset = build(tmp_path / "dataset", [{"images": images}])
    nnunet()(dataset, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert told["labels"] == {"background": 0, "gland": 1}
    assert not (tmp_path / "out" / "splits_final.json").exists()


def test_what_nnunet_cannot_read_is_refused_or_left_out(tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 2.0
    hole = scan(5)
    hole[0, 0, 0] = np.nan
    half = mask(1).astype(np.float32) / 2
    cases: list[dict[str, Any]] = [
        {"images": {"t2w": scan(0), "adc": scan(1), "lesion": mask(1)}},
        {"images": {"t2w": scan(0), "lesion": mask(1)}},
        {"images": {"t2w": scan(0), "adc": scan(1)}},
        {"images": {"t2w": scan(0), "adc": (scan(1), moved), "lesion": mask(1)}},
        {"images": {"t2w": hole, "adc": scan(1), "lesion": mask(1)}},
        {"images": {"t2w": scan(0), "adc": scan(1), "lesion": half}},
        {"images": {"t2w": scan(0), "adc": scan(1)[:, :, :3], "lesion": mask(1)}},
    ]
    dataset = build(tmp_path / "dataset", cases)
    with pytest.raises(UserError) as caught:
        nnunet()(dataset, tmp_path / "refused")
    lines = (
        "6 of 7 cases have what nnU-Net cannot read:",
        "no adc image: 1 (p1)",
        "no lesion image: 1 (p2)",
        "adc is not on the grid of t2w: more than 0.5 mm apart: 1 (p3)",
        "t2w holds NaN or infinity: 1 (p4)",
        "the mask holds values that are no whole numbers: 1 (p5)",
        "adc is not on the grid of t2w: another number of voxels: 1 (p6)",
        "--prepared RUN/prepared",
    )
    for line in lines:
        assert line in str(caught.value)
    assert not (tmp_path / "refused").exists()
    out = tmp_path / "out"
    exported = nnunet(incomplete="leave_out")(dataset, out)
    assert list(assert_nnunet(out)) == ["p0"]
    for line in lines[:-1]:
        assert line in exported.remarks[0]
    # What lies apart by less than the tolerance is written on the first channel's grid.
    nnunet(incomplete="leave_out", tolerance_mm=2.5)(dataset, tmp_path / "near")
    assert list(assert_nnunet(tmp_path / "near")) == ["p0", "p3"]


def test_without_masks_all_cases_are_to_predict(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [{"images": {"t2w": scan(n)}} for n in range(2)]
    exported = nnunet()(build(tmp_path / "dataset", cases), tmp_path / "out")
    assert [path.name for path in exported.folders] == ["imagesTs"]
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["numTraining"] == 0
    assert "nnUNetv2_predict" in "\n".join(exported.remarks)


def test_several_masks_colours_and_bad_arguments_are_one_message(tmp_path: Path) -> None:
    both = {"t2w": scan(0), "gland": mask(1), "lesion": mask(1)}
    dataset = build(tmp_path / "dataset", [{"images": both}])
    with pytest.raises(UserError, match=r"gland, lesion; nnU-Net takes one(.|\n)*mask=gland"):
        nnunet()(dataset, tmp_path / "out")
    nnunet(mask="lesion")(dataset, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())
    # The other mask is no channel.
    assert told["channel_names"] == {"0": "t2w"}
    with pytest.raises(UserError, match=r"dataset\.json is there already"):
        nnunet(mask="lesion")(dataset, tmp_path / "out")
    with pytest.raises(UserError, match="no case has an image called dwi"):
        nnunet(sequences=["dwi"])(dataset, tmp_path / "x")
    write_image(dataset.folder / "p0-t2w.nii.gz", np.zeros((3, *SHAPE), np.float32), AFFINE)
    with pytest.raises(UserError, match="t2w is in colours, and channels of nnU-Net are grey"):
        nnunet(mask="lesion")(dataset, tmp_path / "x")
    for bad in (
        {"incomplete": "maybe"}, {"labels": [1]}, {"labels": {"a": "b"}}, {"labels": {"a": 0}},
        {"labels": {"a": 1, "b": 1}}, {"tolerance_mm": "far"}, {"dataset_name": "a\nb"},
    ):  # fmt: skip
        arguments: dict[str, Any] = {"mask": "lesion", **bad}
        with pytest.raises(UserError):
            nnunet(**arguments)(dataset, tmp_path / "x")


def test_the_command_line(
    dataset: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["export", "nnunet", str(dataset.folder), "--out", str(out)]
    assert main([*command, "--set", "labels={low: 2, high: [3, 5]}", "--name", "Q"]) == 0
    printed = "".join(capsys.readouterr())
    assert "splits_final.json, dataset.json, imagesTr/, imagesTs/, labelsTr/" in printed
    assert "Dataset501_VOXELLA" in printed
    assert SECRET not in printed
    assert_nnunet(out)
    assert main(command) == 2
