"""A classifier of real images in the evaluation: its features, and whether it sees the labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from classifier_bench import Clinic, by_hand, counterparts, kept, knowing_weights, trunk, volumes
from evaluation_bench import affine
from torch import Tensor, nn

from voxella.case import Manifest
from voxella.classification.predict import read_predictions
from voxella.classification.stage import classify
from voxella.classification.task import ClassifierTask
from voxella.errors import UserError
from voxella.evaluation import classifier as evaluate_classifier
from voxella.evaluation.classifier import frozen_classifier
from voxella.evaluation.classifier_features import classifier_predictions
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.features import FeatureStore
from voxella.evaluation.label_agreement import NAMES, no_better_than_chance
from voxella.evaluation.networks import check_evaluation, networks_of, seen_by
from voxella.evaluation.sets import read_sets
from voxella.evaluation.stage import evaluate
from voxella.evaluation.volumes import read_images
from voxella.imaging.volume import write_volume
from voxella.metrics.declared.lookup import declared_numbers, number_of
from voxella.metrics.estimate import Estimate
from voxella.metrics.features.medicalnet import medicalnet_resnet
from voxella.metrics.predictions import Predictions
from voxella.pipeline.run import run_stages
from voxella.recipe.model import Recipe

SHOWS = [bool(number % 2) for number in range(8)]
RIGHT = ["positive" if shown else "negative" for shown in SHOWS]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    return Clinic(tmp_path_factory.mktemp("clinic"))


@pytest.fixture(scope="module")
def weights(clinic: Clinic) -> list[dict[str, Tensor]]:
    """Of two trainings: they differ, and both see what the cases show."""
    return [knowing_weights(clinic.training(), seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def knowing(
    clinic: Clinic, weights: list[dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "classify" / "real"
    apart = {split: clinic.cases(split) for split in ("val", "test")}
    return kept(folder, clinic.training(), weights, apart)


@pytest.fixture(scope="module")
def run(clinic: Clinic, knowing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose volumes show their labels, evaluated with the classifier; not to be changed."""
    folder = tmp_path_factory.mktemp("evaluated")
    counterparts(folder / "samples", clinic.cases("train"), SHOWS, RIGHT)
    evaluate(clinic.recipe(f"evaluate.classifier={knowing}"), folder)
    return folder


def read(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return loaded


def measured(clinic: Clinic, run: Path, classifier: Path, *overrides: str) -> dict[str, Any]:
    evaluate(clinic.recipe(f"evaluate.classifier={classifier}", *overrides), run)
    found: dict[str, Any] = read(run)["metrics"]
    return found


def test_features_are_what_the_last_layer_is_given(
    clinic: Clinic, run: Path, knowing: Path, weights: list[dict[str, Tensor]]
) -> None:
    """Both sequences, a slice every 12 mm of the header's 6, scaled: written out and compared."""
    recipe = clinic.recipe(f"evaluate.classifier={knowing}")
    network = networks_of(recipe.evaluate, recipe.data, recipe.prepare)[0]
    seen = seen_by(network, 0)
    sets = read_sets(SetSettings.of(recipe), Manifest.read(clinic.prepared), run / "samples")
    real = FeatureStore(clinic.folder / "evaluation" / "features")
    made = FeatureStore(run / "evaluation" / "features")
    assert (network.name, network.dim) == ("classifier-real", 8)
    for store, subjects, first in ((real, sets.real, 0), (made, sets.synthetic, 500)):
        for number, subject in enumerate(subjects):
            case = volumes(first + number, number % 2 == 1)
            expected = trunk(weights[0], by_hand(case))
            found = store.read(seen, subject)
            assert found.shape == (1, 8)
            assert torch.allclose(found, expected, atol=1e-5), subject.id
            assert not torch.allclose(found, trunk(weights[1], by_hand(case)), atol=1e-2)


def test_its_distances_bear_its_name_and_its_caveat(
    run: Path, clinic: Clinic, knowing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(run)
    assert found["networks"][0]["name"] == "classifier-real"
    assert found["networks"][0]["comparable_with_paper"] is False
    assert [one["name"] for one in found["networks"][1:]] == [
        f"random-seed0-{plane}" for plane in ("sagittal", "coronal", "axial")
    ]
    assert found["classifier"]["seeds"] == [0, 1]
    assert "paper" not in found
    kid, fid = found["metrics"]["kid_3d"], found["metrics"]["fid_3d"]
    for number in (kid, fid, found["metrics"]["recall"]):
        assert number["network"] == "classifier-real"
        assert number["comparable_with_paper"] is False
        assert "8 of these 8 real cases are not among those" in number["note"]
    assert (kid["floor"]["n"], kid["n"]) == (4, 8)
    assert kid["floor"]["value"] is not None
    assert kid["value"] is not None
    assert "learnt" not in (found["metrics"]["kid_2d_axial"]["note"] or "")
    # Eight features and eight cases: with the warning, as of any other network.
    assert fid["value"] is not None
    assert "8 vectors of 8 features" in fid["warning"]
    evaluate(clinic.recipe(f"evaluate.classifier={knowing}"), run)
    said = capsys.readouterr().out
    assert "up to date" in said
    assert "classifier-real, 8, comparable with no published number" in said


def test_cases_that_it_kept_apart_carry_no_caveat(
    clinic: Clinic, knowing: Path, tmp_path: Path
) -> None:
    counterparts(tmp_path / "samples", clinic.cases("test"), SHOWS, RIGHT)
    found = measured(clinic, tmp_path, knowing)
    assert found["kid_3d"]["split"] == "test"
    assert "learnt" not in (found["kid_3d"]["note"] or "")


def test_right_labels_are_agreed_with(run: Path) -> None:
    found = read(run)["metrics"]
    for name in NAMES:
        number = found[f"adherence_label_{name}"]
        assert (number["value"], number["floor"]["value"]) == (1.0, 1.0), name
        assert number["network"] == "classifier-real"
    assert "one answer for all would reach 0.5" in found["adherence_label_accuracy"]["note"]
    assert found["adherence_label_accuracy"]["n"] == 8
    # Without a classifier there is no such number, and no word of one.
    assert number_of("adherence_label_auc").label.endswith(", AUC")
    assert number_of("adherence_label_auc").group == number_of("adherence_side").group
    assert {f"adherence_label_{name}" for name in NAMES} <= set(declared_numbers())


def test_labels_by_chance_are_not_agreed_with_and_absent_ones_not_counted(
    clinic: Clinic, knowing: Path, tmp_path: Path
) -> None:
    """Of eight volumes six have a label; four of these say what is shown, two the contrary."""
    labels = [RIGHT[1], RIGHT[0], *RIGHT[2:6], None, None]
    counterparts(tmp_path / "samples", clinic.cases("train"), SHOWS, labels)
    found = measured(clinic, tmp_path, knowing)
    numbers = {name: found[f"adherence_label_{name}"] for name in NAMES}
    assert {name: number["value"] for name, number in numbers.items() if name != "auc"} == {
        name: pytest.approx(2 / 3) for name in NAMES if name != "auc"
    }
    # Of nine pairs the four of two right ones are in order, that of two wrong ones is not.
    assert 4 / 9 <= numbers["auc"]["value"] <= 8 / 9
    assert numbers["accuracy"]["n"] == 6
    for number in numbers.values():
        assert "2 of 8 synthetic cases have no label" in number["note"]
        assert number["floor"]["value"] == 1.0
    # Labels in pairs, volumes in turn: half of each agree, and no order tells the classes apart.
    halves = ["negative", "negative", "positive", "positive"] * 2
    counterparts(tmp_path / "samples", clinic.cases("train"), SHOWS, halves)
    found = measured(clinic, tmp_path, knowing)
    assert found["adherence_label_accuracy"]["value"] == 0.5
    assert 0.25 <= found["adherence_label_auc"]["value"] <= 0.75


def test_one_that_cannot_tell_real_cases_carries_no_number(
    clinic: Clinic, weights: list[dict[str, Tensor]], run: Path, tmp_path: Path
) -> None:
    blind = {**weights[0], "classifier.head.weight": torch.zeros(2, 8)}
    apart = {"test": clinic.cases("test")}
    folder = kept(tmp_path / "blind", clinic.training("classify.seeds=1"), [blind], apart)
    shutil.copytree(run / "samples", tmp_path / "run" / "samples")
    found = measured(clinic, tmp_path / "run", folder)
    for name in NAMES:
        number = found[f"adherence_label_{name}"]
        assert number["value"] is None
        assert "AUC on 8 real test cases is 0.50" in number["note"]
        assert "carries no number" in number["note"]
        assert number["floor"]["value"] is not None, name


def test_what_was_learnt_from_is_no_measure_of_it(
    clinic: Clinic, weights: list[dict[str, Tensor]], run: Path, tmp_path: Path
) -> None:
    """What it kept apart, its own predictions say; this run's test cases may be others."""
    recipe, shared = clinic.training("classify.seeds=1"), weights[:1]
    shutil.copytree(run / "samples", tmp_path / "run" / "samples")
    stranger = kept(tmp_path / "strange", recipe, shared, {"test": clinic.cases("train")})
    number = measured(clinic, tmp_path / "run", stranger)["adherence_label_auc"]
    assert number["value"] is None
    assert "not measured on held-out real cases" in number["note"]
    assert "the classifier kept apart" in number["note"]
    # This run's test cases have chosen its epoch: better than nothing, and said.
    chosen = kept(tmp_path / "chosen", recipe, shared, {"val": clinic.cases("test")})
    number = measured(clinic, tmp_path / "run", chosen)["adherence_label_auc"]
    assert number["value"] == 1.0
    assert "val cases, which have chosen its epoch" in number["note"]
    assert "val cases, which have chosen its epoch" in number["floor"]["note"]


@pytest.mark.parametrize(("each", "good"), [(3, False), (4, True)])
def test_few_cases_without_an_error_may_be_luck(each: int, good: bool) -> None:
    """One of 20 orders of three and three patients is perfect, of four and four one of 70."""
    truth = np.arange(2 * each) < each
    ids = [f"c{n}" for n in range(2 * each)]
    perfect = Estimate(1.0, None, None, 2 * each)
    known = Predictions.of(ids, truth, truth.astype(float))
    assert (no_better_than_chance(known, perfect, "test") is None) is good
    # Many cases of one patient are no more than one.
    twice = Predictions.of(ids, truth, truth.astype(float), patients=["a"] * each + ["b"] * each)
    assert "by chance 1 time in 2" in str(no_better_than_chance(twice, perfect, "test"))
    for low, better in ((0.5, False), (0.51, True)):
        auc = Estimate(0.7, low, 0.9, 2 * each)
        assert (no_better_than_chance(known, auc, "test") is None) is better


def test_another_classifier_is_another_evaluation_and_another_place_is_not(
    clinic: Clinic,
    knowing: Path,
    weights: list[dict[str, Tensor]],
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "run"
    shutil.copytree(run / "samples", home / "samples")
    without = clinic.recipe()
    evaluate(without, home)
    metrics = read(home)["metrics"]
    assert metrics["kid_3d"]["network"] == "random-seed0"
    assert not [name for name in metrics if name.startswith("adherence_label")]
    first = measured(clinic, home, knowing)
    assert first["kid_3d"]["network"] == "classifier-real"
    shutil.copytree(knowing, tmp_path / "moved")
    capsys.readouterr()
    assert measured(clinic, home, tmp_path / "moved") == first
    assert "up to date" in capsys.readouterr().out
    apart = {split: clinic.cases(split) for split in ("val", "test")}
    other = kept(tmp_path / "other", clinic.training(), weights[::-1], apart)
    second = measured(clinic, home, other)
    assert "up to date" not in capsys.readouterr().out
    assert second["kid_3d"]["value"] != first["kid_3d"]["value"]
    # The first of the seeds gives features; the mean of all their answers knows no order.
    assert second["adherence_label_auc"] == first["adherence_label_auc"]


def test_it_answers_as_the_stage_that_trained_it_has_written(
    clinic: Clinic, tmp_path: Path
) -> None:
    """A training of two steps by `voxella classify`: its own predictions, and their mean here."""
    folder = classify(clinic.training(), tmp_path)
    assert folder is not None
    recipe = clinic.recipe()
    found = frozen_classifier(folder, recipe.data, recipe.prepare)
    assert found is not None
    predicted = classifier_predictions(found, "cpu")
    counterparts(tmp_path / "samples", clinic.cases("train"), SHOWS, RIGHT)
    sets = read_sets(SetSettings.of(recipe), Manifest.read(clinic.prepared), tmp_path / "samples")
    said = [read_predictions(folder / f"seed-{s}" / "predictions.jsonl", "test") for s in (0, 1)]
    assert said[0] is not None
    assert said[1] is not None
    assert said[0].ids == tuple(subject.id for subject in sets.unseen)
    for number, subject in enumerate(sets.unseen):
        mean = (said[0].scores[number] + said[1].scores[number]) / 2
        assert float(predicted.features(read_images(subject))) == pytest.approx(mean, abs=1e-6)


def refusal(recipe: Recipe) -> str:
    with pytest.raises(UserError) as caught:
        check_evaluation(recipe)
    return str(caught.value)


def test_a_folder_that_is_no_finished_classifier(
    clinic: Clinic, knowing: Path, tmp_path: Path
) -> None:
    absent = clinic.recipe("evaluate.classifier=/none/real", "evaluate.medicalnet=/none/med3d.pth")
    said = refusal(absent)
    assert "evaluate.classifier: /none/real is no finished classifier" in said
    assert "voxella classify recipes/downstream/real.yaml --out RUN" in said
    assert "no weights at /none/med3d.pth" in said
    with pytest.raises(UserError, match="no finished classifier"):
        run_stages(absent, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    half = tmp_path / "half"
    shutil.copytree(knowing, half)
    (half / "seed-1" / "best.safetensors").unlink()
    recipe = clinic.recipe(f"evaluate.classifier={half}")
    assert "it is not finished: no seed-1/best.safetensors" in refusal(recipe)
    (half / "seed-1" / "best.safetensors").write_bytes(b"\x00")
    assert "best.safetensors holds no weights of the classifier cnn" in refusal(recipe)
    (half / "stage.json").unlink()
    assert "no stage.json" in refusal(recipe)


def test_one_of_other_images_is_refused_for_all_that_differs(
    clinic: Clinic, weights: list[dict[str, Tensor]], tmp_path: Path
) -> None:
    other = clinic.training(
        *("classify.training_set=both", "data.classes=[benign, cancer]"),
        *("data.sequences=[adc, t2w]", "prepare.crop_mm=[100, 100, 96]"),
    )
    folder = kept(tmp_path / "other", other, weights, {})
    said = refusal(clinic.recipe(f"evaluate.classifier={folder}"))
    assert "it was trained on both images" in said
    assert "its data.classes are benign, cancer, this recipe's negative, positive" in said
    assert "its data.sequences are adc, t2w, this recipe's t2w, adc" in said
    assert "prepared in another way (prepare.crop_mm)" in said


class _NoHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv3d(2, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.last(images)
        return found.mean(dim=(2, 3, 4))


class _Tokens(nn.Module):
    """Gives its last layer a vector for each voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.last(images.flatten(2).movedim(1, 2))
        return found.mean(dim=1)


@pytest.mark.parametrize(
    ("network", "why"),
    [(_NoHead, "has no linear layer with 2 outputs"), (_Tokens, "is not given one vector")],
)
def test_a_network_without_such_a_layer_has_no_features(
    clinic: Clinic,
    network: type[nn.Module],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = clinic.training("classify.seeds=1")
    assert training.classify is not None
    task = ClassifierTask(network(), training.classify.loss)
    folder = kept(tmp_path / "kept", training, [task.state_dict()], {})
    monkeypatch.setattr(evaluate_classifier, "build_task", lambda *given: task)
    recipe = clinic.recipe(f"evaluate.classifier={folder}")
    said = refusal(recipe)
    assert why in said
    assert "--set evaluate.medicalnet=PATH" in said
    # Where the features come from elsewhere it may still be asked.
    weights = tmp_path / "med3d.pth"
    torch.save({"state_dict": medicalnet_resnet().state_dict()}, weights)
    check_evaluation(clinic.recipe(*(f"evaluate.{k}={v}" for k, v in _both(folder, weights))))


def _both(folder: Path, weights: Path) -> tuple[tuple[str, Path], ...]:
    return (("classifier", folder), ("medicalnet", weights))


def test_a_volume_that_it_cannot_look_at_is_named(
    clinic: Clinic, knowing: Path, tmp_path: Path
) -> None:
    counterparts(tmp_path / "samples", clinic.cases("train"), SHOWS, RIGHT)
    flat = np.full((16, 16, 16), 0.5, dtype=np.float32)
    write_volume(tmp_path / "samples" / "case-03-s000-adc.nii.gz", flat, affine())
    with pytest.raises(UserError) as caught:
        measured(clinic, tmp_path, knowing)
    said = str(caught.value)
    assert "1 of 24 cases cannot be evaluated" in said
    assert "case-03-s000: classifier-real: channel 1: percentiles 0 and 98 are equal" in said
