"""What an evaluation cannot support it refuses, at once, by case, and says why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from evaluation_bench import Hospital, anatomy, synthetic
from numpy.typing import NDArray
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.check.synthetic_sets import check_samples
from voxella.cli import main
from voxella.errors import UserError
from voxella.evaluation.stage import evaluate
from voxella.hashing import sha256_file
from voxella.pipeline.run import run_stages
from voxella.recipe.load import load_recipe


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"), train=6, test=4, val=2)


def refusal(hospital: Hospital, run: Path, *overrides: str) -> str:
    """The message; nothing is left that could be taken for a result."""
    with pytest.raises(UserError) as caught:
        evaluate(hospital.recipe(*overrides), run)
    assert not (run / "evaluation" / "metrics.json").exists()
    assert not (run / "evaluation" / "stage.json").exists()
    return str(caught.value)


def test_mixed_splits(hospital: Hospital, tmp_path: Path) -> None:
    mixed = [*hospital.cases("train"), *hospital.cases("test")[:2]]
    synthetic(hospital, tmp_path / "samples", mixed)
    said = refusal(hospital, tmp_path, "sample.split=train")
    assert "2 from test, 6 from train" in said
    assert "such as case-06-s000, case-07-s000" in said
    assert "--set evaluate.real_split=test or --set evaluate.real_split=train" in said


def test_another_split_than_asked_for(hospital: Hospital, tmp_path: Path) -> None:
    """What counts is where the source is NOW: a manifest may have been split anew."""
    synthetic(hospital, tmp_path / "samples", hospital.cases("test"))
    manifest = Manifest.read(tmp_path / "samples")
    relabelled = [case.model_copy(update={"split": "train"}) for case in manifest]
    Manifest(manifest.folder, relabelled).write()
    said = refusal(hospital, tmp_path, "evaluate.real_split=train")
    assert "4 from test" in said
    assert "--set evaluate.real_split=test" in said


def test_a_split_without_real_cases(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "workspace", train=3, test=0, val=0)
    (case,) = hospital.cases("train")[:1]
    stranger = case.model_copy(update={"split": "val", "id": "stranger-00"})
    synthetic(hospital, tmp_path / "samples", [stranger])
    assert "no real case in the split val" in refusal(hospital, tmp_path)


def test_bad_volumes_are_named_all_at_once(hospital: Hospital, tmp_path: Path) -> None:
    def make(case: Case) -> NDArray[Any]:
        volume = anatomy(1)
        number = int(case.id[-2:])
        if number == 1:
            volume[3, 4, 5] = np.nan
        if number == 2:
            volume[0, :2] = np.inf
        if number == 3:
            return volume[:, :, :12]
        if number == 4:
            return volume * 962
        return volume

    synthetic(hospital, tmp_path / "samples", hospital.cases("train"), make=make)
    said = refusal(hospital, tmp_path)
    # Six synthetic ones, six to compare with, four that are held out.
    assert "4 of 16 cases cannot be evaluated" in said
    assert "case-01-s000: 1 voxels are NaN or infinite" in said
    assert "case-02-s000: 32 voxels are NaN or infinite" in said
    assert "case-03-s000: 16 x 16 x 12 voxels, where 16 x 16 x 16 are compared" in said
    assert "case-04-s000: intensities from" in said
    assert "case-00-s000" not in said
    # What was found of the good ones is kept; once the others are fixed, all is measured.
    for case in hospital.cases("train"):
        good = synthetic(hospital, tmp_path / "good", [case])
        name = f"volumes/{case.id}-s000.nii.gz"
        shutil.copy(good / name, tmp_path / "samples" / name)
    evaluate(hospital.recipe(), tmp_path)
    assert (tmp_path / "evaluation" / "metrics.json").is_file()


def test_other_voxels_than_the_source_has(hospital: Hospital, tmp_path: Path) -> None:
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"), spacing_mm=(8.0, 8.0, 3.0))
    said = refusal(hospital, tmp_path)
    assert "voxels of 8 x 8 x 3 mm, where the real cases have" in said
    assert "5.94..6.06" in said


def test_weights_that_are_named_and_not_there(hospital: Hospital, tmp_path: Path) -> None:
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    named = ("evaluate.medicalnet=/none/med3d.pth", "evaluate.radimagenet=/none/rad.pt")
    said = refusal(hospital, tmp_path, *named)
    assert "evaluate.medicalnet: there are no weights at /none/med3d.pth" in said
    assert "evaluate.radimagenet: there are no weights at /none/rad.pt" in said
    assert "comparable with no published number" in said
    # In a whole run it is said before the first stage.
    with pytest.raises(UserError, match=r"no weights at /none/med3d\.pth"):
        run_stages(hospital.recipe(named[0]), tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_weights_that_are_not_the_ones_meant(hospital: Hospital, tmp_path: Path) -> None:
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    weights = tmp_path / "rad.pt"
    weights.write_bytes(b"not a network")
    given = (f"evaluate.radimagenet={weights}", f"evaluate.radimagenet_sha256={'a' * 64}")
    said = refusal(hospital, tmp_path, *given)
    assert f"the SHA-256 of {weights} is {sha256_file(weights)}" in said
    assert "cannot be read as weights of RadImageNet" in refusal(hospital, tmp_path, given[0])
    # In a whole run it is said before the first stage, too.
    with pytest.raises(UserError, match="cannot be read as weights of RadImageNet"):
        run_stages(hospital.recipe(given[0]), tmp_path / "whole")
    with pytest.raises(UserError, match=r"radimagenet_sha256: evaluate\.radimagenet names no file"):
        run_stages(hospital.recipe(given[1]), tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


@pytest.mark.parametrize("until", ["evaluate", "classify"])
def test_volumes_on_their_scans_grids_are_refused_before_they_are_made(
    until: str, hospital: Hospital, tmp_path: Path
) -> None:
    recipe = hospital.recipe("sample.space=source")
    if until == "classify":
        downstream = REPOSITORY / "recipes" / "downstream" / "synth_clinical.yaml"
        recipe = load_recipe(downstream, ["smoke"], ["sample.space=source"])
    with pytest.raises(UserError, match=f"received source, and {until} takes volumes on the"):
        run_stages(recipe, tmp_path / "whole", until=until)
    assert not (tmp_path / "whole").exists()


def test_a_folder_that_holds_no_data_set(hospital: Hospital, tmp_path: Path) -> None:
    assert "no data set here" in refusal(hospital, tmp_path)
    with pytest.raises(UserError, match="holds no data set"):
        evaluate(hospital.recipe(), tmp_path, tmp_path)
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    assert "evaluate.sequence: adc is none of t2w" in refusal(
        hospital, tmp_path, "evaluate.sequence=adc"
    )
    manifest = Manifest.read(tmp_path / "samples")
    (tmp_path / "samples" / manifest.cases[0].images["t2w"]).unlink()
    assert "case-00-s000" in refusal(hospital, tmp_path)


def test_a_folder_of_another_sort_is_refused_before_anything_is_prepared(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By manifests and headers alone: all problems of all data sets, and no traceback."""
    many = tmp_path / "many"
    sources = hospital.cases("train")
    wrong: list[dict[str, Any]] = [
        {"int16_scale": "SECRET words of a report"},
        {"int16_scale": -962},
        {"int16_scale": True},
        {"spacing_mm": [6.0, 0.0, 6.0]},
        {"spacing_mm": "6"},
    ]
    facts = dict(zip([case.id for case in sources], wrong, strict=False))
    synthetic(hospital, many / "facts", sources, extra=lambda case: facts.get(case.id, {}))
    coarse = synthetic(hospital, many / "grid", sources, make=lambda case: anatomy(1)[::2])
    image = nib.load(coarse / "volumes" / f"{sources[0].id}-s000.nii.gz")
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, coarse / "volumes" / f"{sources[0].id}-s000.nii.gz")
    (coarse / "volumes" / f"{sources[1].id}-s000.nii.gz").write_bytes(b"\x1f\x8b broken")
    recipe = hospital.recipe()
    with pytest.raises(UserError) as caught:
        check_samples(recipe.data.sequences, recipe.prepare, many, on_grid=True)
    said = caught.value.problem
    assert "case case-00-s000: extra.int16_scale is" in said
    assert "case case-01-s000: extra.int16_scale is -962, not a number above 0" in said
    assert "case case-02-s000: extra.int16_scale is" in said
    assert "case case-03-s000: extra.spacing_mm" in said
    assert "case case-04-s000: extra.spacing_mm" in said
    assert "case-05-s000: extra" not in said
    assert "case case-00-s000: t2w: its header does not say how it lies" in said
    assert "case case-01-s000: t2w: truncated or damaged" in said
    assert "case case-05-s000: t2w: 8 x 16 x 16 voxels, where 16 x 16 x 16 are compared" in said
    assert "SECRET" not in str(caught.value)
    with pytest.raises(UserError, match="int16_scale is -962"):
        evaluate(hospital.recipe(), tmp_path, many / "facts")
    good = synthetic(hospital, tmp_path / "good", sources)
    check_samples(recipe.data.sequences, recipe.prepare, good, on_grid=True)
    base = str(REPOSITORY / "recipes" / "base.yaml")
    command = ["evaluate", base, "--profile", "smoke", "--out", str(tmp_path / "run")]
    assert main([*command, "--samples", str(many / "facts")]) == 2
    assert main([*command, "--samples", str(tmp_path / "nowhere")]) == 2
    assert "holds no data set" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_damaged_features_are_named(hospital: Hospital, tmp_path: Path) -> None:
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    evaluate(hospital.recipe(), tmp_path)
    kept = tmp_path / "evaluation" / "features" / "histogram"
    broken = next(kept.iterdir())
    broken.write_bytes(b"\x00")
    with pytest.raises(UserError, match="is damaged") as caught:
        evaluate(hospital.recipe("seed=5"), tmp_path)
    assert f"rm {broken}" in str(caught.value)


def test_without_held_out_cases_nothing_is_said_of_copies(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "workspace", train=5, test=0, val=0)
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    evaluate(hospital.recipe(), tmp_path)
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["metrics"]
    for name in ("copies_share_latent", "copies_share_image", "copies_beyond_chance_image"):
        assert metrics[name]["value"] is None
        assert "no held-out real case" in metrics[name]["note"]
    # A gate that cannot tell does not open.
    with pytest.raises(UserError, match="could not be told"):
        evaluate(hospital.recipe("evaluate.gate=0.5"), tmp_path)
    assert json.loads((tmp_path / "samples" / "gate.json").read_text())["passed"] is False
