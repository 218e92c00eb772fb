"""Labels of any number of classes: against scikit-learn, with a named positive, and in classify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blob_scenarios import SIZE, blob_recipe
from evaluation_bench import Hospital, synthetic
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.check.reports.labels import check_labels
from voxella.classification.compare import compare_scenarios
from voxella.classification.outcome import curves, seed_metrics
from voxella.classification.predict import read_predictions, write_predictions
from voxella.classification.stage import classify
from voxella.errors import UserError
from voxella.evaluation.label_agreement import _ways
from voxella.evaluation.stage import evaluate
from voxella.imaging.volume import write_volume
from voxella.metrics.binary import binary_metrics
from voxella.metrics.multiclass import auc_of, one_vs_rest, prediction_metrics
from voxella.metrics.predictions import ClassPredictions, Predictions, predictions_of
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data
from voxella.recipe.load import load_recipe
from voxella.report.classifiers import _lines
from voxella.study.prediction_differences import prediction_difference

CLASSES = ("low", "middle", "high")
SURE: dict[str, Any] = {"seed": 3, "name": "t", "replicates": 60}


def invented(n: int = 60, seed: int = 0, skill: float = 1.0) -> ClassPredictions:
    dice = np.random.default_rng(seed)
    truth = np.arange(n) % 3
    logits = dice.normal(size=(n, 3)) + skill * np.eye(3)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    ids = [f"c{number:03d}" for number in range(n)]
    return ClassPredictions.of(CLASSES, ids, truth.tolist(), scores.tolist())


def test_means_over_classes_are_scikit_learns() -> None:
    given = invented()
    found = prediction_metrics(given, **SURE)
    called, truth, one_hot = given.called, given.truth, np.eye(3)[given.truth]
    expected = {
        "accuracy": accuracy_score(truth, called),
        "sensitivity": recall_score(truth, called, average="macro"),
        "ppv": precision_score(truth, called, average="macro"),
        "auc": roc_auc_score(truth, given.scores, multi_class="ovr", average="macro"),
        "average_precision": average_precision_score(one_hot, given.scores, average="macro"),
        "brier": float(((given.scores - one_hot) ** 2).mean()),
        "specificity": np.mean(
            [recall_score(truth != place, called != place) for place in range(3)]
        ),
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
        low, high = found[name].low, found[name].high
        assert low is not None
        assert high is not None
        assert low < value < high, name
    assert auc_of(given) == found["auc"].value
    assert found["prevalence"].value is None
    assert "data.positive" in str(found["prevalence"].note)
    assert set(found) == set(binary_metrics(given.against_rest(0), **SURE))


def test_each_class_against_the_rest_is_the_binary_number() -> None:
    given = invented()
    each = one_vs_rest(given, **SURE)
    assert list(each) == list(CLASSES)
    alone = binary_metrics(given.against_rest(1), seed=3, name="t/middle", replicates=60)
    assert each["middle"] == {name: number.as_json() for name, number in alone.items()}
    assert one_vs_rest(given.against_rest(1), **SURE) == {}


def test_a_named_positive_makes_the_binary_numbers_to_the_last_digit() -> None:
    given = invented()
    labels = [CLASSES[place] for place in given.truth]
    rows = given.scores.tolist()
    made = predictions_of(CLASSES, "high", given.ids, labels, rows, patients=given.patients)
    plain = Predictions.of(given.ids, given.truth == 2, given.scores[:, 2])
    assert prediction_metrics(made, **SURE) == binary_metrics(plain, **SURE)


def test_an_absent_class_is_told_and_a_wrong_row_refused() -> None:
    whole = invented()
    kept = np.flatnonzero(whole.truth != 1)
    few = ClassPredictions.of(
        CLASSES,
        [whole.ids[row] for row in kept],
        whole.truth[kept].tolist(),
        whole.scores[kept].tolist(),
    )
    found = prediction_metrics(few, **SURE)
    assert found["auc"].note == "it is undefined for middle"
    assert found["accuracy"].value is not None
    assert auc_of(few) is None
    with pytest.raises(UserError, match="1 case\\(s\\), such as a, do not fit the 3 classes"):
        ClassPredictions.of(CLASSES, ["a"], [0], [[0.5, 0.5]])
    with pytest.raises(UserError, match="do not fit"):
        ClassPredictions.of(CLASSES, ["a"], [3], [[0.5, 0.25, 0.25]])
    with pytest.raises(UserError, match="no probability"):
        ClassPredictions.of(CLASSES, ["a"], [0], [[0.5, 0.5, float("nan")]])


def test_the_rule_of_the_positive_class() -> None:
    assert Data().positive_class == "positive"
    assert Data(positive="negative").positive_class == "negative"
    assert Data(classes=list(CLASSES)).positive_class is None
    assert Data(classes=list(CLASSES), positive="low").positive_class == "low"
    # What changes nothing makes no finished stage anew.
    assert Data(positive="positive").named_positive == Data().named_positive == {}
    assert Data(positive="negative").named_positive == {"positive": "negative"}
    with pytest.raises(UserError, match="positive is no class; expected: negative, positive"):
        blob_recipe("real", "data.positive=malignant")


def test_a_classifier_may_tell_fewer_classes_than_there_are_labels() -> None:
    recipe = load_recipe(REPOSITORY / "recipes" / "pathldm" / "cas-real.yaml")
    assert recipe.classify is not None
    data = recipe.classify.data_of(recipe.data)
    assert (data.classes, data.positive_class) == (["low", "high"], "high")
    # As its own recipe.yaml has it, once more.
    assert recipe.classify.data_of(data) == data
    asked = [recipe.classify.class_of(label) for label in ("0", "1", "2", "3", "4", None)]
    assert asked == ["low", "low", "high", "high", None, None]
    for classes, told in (
        ({"low": ["0"], "high": ["5"]}, r"made of 0, 1, 2, 3 \(data\.classes\)"),
        ({"all": ["0", "1"]}, "two classes or more"),
        ({"low": ["0", "1"], "high": ["1"]}, "a label belongs to two of them"),
    ):
        wrong = recipe.classify.model_copy(update={"classes": classes})
        with pytest.raises(UserError, match=told):
            wrong.data_of(recipe.data)


def test_predictions_of_classes_are_kept(tmp_path: Path) -> None:
    given = invented(9)
    write_predictions(tmp_path / "p.jsonl", {"test": given, "val": given.against_rest(0)})
    back = read_predictions(tmp_path / "p.jsonl", "test")
    assert isinstance(back, ClassPredictions)
    assert (back.classes, back.ids, back.patients) == (given.classes, given.ids, given.patients)
    assert np.array_equal(back.scores, given.scores)
    assert np.array_equal(back.truth, given.truth)
    assert isinstance(read_predictions(tmp_path / "p.jsonl", "val"), Predictions)
    assert read_predictions(tmp_path / "p.jsonl", "train") is None


def test_a_training_of_three_classes_has_all_numbers_and_a_curve_for_each() -> None:
    given = invented()
    found = seed_metrics(given, Evaluate(bootstrap=20), seed=0, name="x")
    assert list(found) == ["auc", "ap", "accuracy", "sensitivity", "specificity", "ppv", "npv"]
    assert all(number.value is not None for number in found.values())
    drawn = curves(given)
    assert drawn is not None
    assert list(drawn["classes"]) == list(CLASSES)
    assert drawn["classes"]["low"] == curves(given.against_rest(0))


def test_a_study_compares_classes_on_the_same_draws() -> None:
    good, bad = invented(skill=3.0), invented(seed=1, skill=0.2)
    for metric in ("auc", "accuracy", "ap", "sensitivity"):
        key = "average_precision" if metric == "ap" else metric
        there = prediction_difference(metric, [good], [bad], seed=0, replicates=50)
        back = prediction_difference(metric, [bad], [good], seed=0, replicates=50)
        values = [prediction_metrics(one, **SURE)[key].value for one in (good, bad)]
        assert there.value == pytest.approx(values[0] - values[1])  # type: ignore[operator]
        assert there.low is not None
        assert there.low > 0
        assert (back.low, back.high) == pytest.approx((-there.high, -there.low))  # type: ignore[operator]


def test_ways_to_deal_patients_to_classes() -> None:
    given = invented(6)
    assert _ways(given) == 90  # 6! / (2! 2! 2!)
    assert _ways(given.against_rest(0)) == 15  # 6 over 2


def test_pirads_speaks_of_the_named_class() -> None:
    def case(label: str) -> Case:
        return Case(id="a", group="a", images={"t2w": "a.nii.gz"}, label=label, extra={"pirads": 5})

    def codes(label: str, positive: str | None) -> list[str]:
        return [finding.code for finding in check_labels([case(label)], CLASSES, positive)]

    assert codes("low", None) == []
    assert codes("low", "high") == ["label.table"]
    assert codes("high", "high") == []


def three_greys(folder: Path, splits: dict[str, int]) -> None:
    """A prepared data set whose blob is dark, grey or bright."""
    cases = []
    for split, count in splits.items():
        for number in range(count):
            dice = np.random.default_rng([number, count])
            array = 0.4 + 0.1 * dice.random(SIZE)
            array[4:8, 4:8, 2:6] = (0.1, 0.6, 0.95)[number % 3]
            name = f"{split}-{number}"
            write_volume(folder / f"{name}.nii.gz", array, np.diag([1.0, 1.0, 3.0, 1.0]))
            cases.append(
                Case.model_validate(
                    {
                        "id": name,
                        "group": name,
                        "images": {"t2w": f"{name}.nii.gz"},
                        "label": CLASSES[number % 3],
                        "split": split,
                        "extra": {"prepared_sha256": name},
                    }
                )
            )
    Manifest(folder, cases).write()


def test_a_classifier_of_three_classes_is_trained_measured_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three_greys(tmp_path / "prepared", {"train": 12, "val": 6, "test": 9})
    overrides = (
        *("classify.train.steps=40", "classify.train.checkpoint_every=40"),
        *("classify.train.validate_every=10", "classify.optimizer.lr=1e-2"),
        *("classify.deepspeed.train_batch_size=6", "classify.classifier.channels=[8, 8]"),
        f"data.classes=[{', '.join(CLASSES)}]",
        "classify.baselines=[logistic, neighbours]",
    )
    recipe = blob_recipe("real", *overrides)
    folder = classify(recipe, tmp_path)
    assert folder is not None
    said = capsys.readouterr().out
    assert "train: 12 cases, 4 low, 4 middle, 4 high" in said
    test = read_predictions(folder / "seed-0" / "predictions.jsonl", "test")
    assert isinstance(test, ClassPredictions)
    assert test.classes == CLASSES
    found = json.loads((folder / "metrics.json").read_text())
    auc = roc_auc_score(test.truth, test.scores, multi_class="ovr", average="macro")
    assert found["metrics"]["auc"]["value"] == pytest.approx(auc)
    assert found["metrics"]["auc"]["value"] > 0.9
    assert found["metrics"]["percent_positive"]["value"] is None
    assert list(found["seeds"]["0"]["one_vs_rest"]) == list(CLASSES)
    # Dark, grey and bright blobs are told apart by anything that looks.
    for baseline in found["baselines"].values():
        assert baseline["metrics"]["auc"]["value"] == 1.0
        assert baseline["metrics"]["accuracy"]["value"] == 1.0
        assert list(baseline["metrics"]) == [k for k in found["metrics"] if k != "percent_positive"]
    # The page draws a curve for each class.
    drawn = _lines(json.loads((folder / "curves.json").read_text())["seeds"])
    assert list(drawn) == [f"seed 0, {name}" for name in CLASSES]
    with pytest.raises(UserError, match="tests of DeLong and McNemar are of two classes, here"):
        compare_scenarios(folder, folder)
    # A named positive: binary again, and another choice of the epoch, so not in the same folder.
    named = (*overrides, "data.positive=high")
    with pytest.raises(UserError, match=r'data.positive: absent -> "high"') as refusal:
        classify(blob_recipe("real", *named), tmp_path)
    assert "--set data.positive=null" in str(refusal.value)
    capsys.readouterr()
    folder = classify(blob_recipe("real", *named, "name=high"), tmp_path)
    assert folder is not None
    assert "train: 12 cases, 4 high" in capsys.readouterr().out
    binary = read_predictions(folder / "seed-0" / "predictions.jsonl", "test")
    assert isinstance(binary, Predictions)
    assert int(binary.truth.sum()) == 3


def test_the_text_head_of_three_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hospital = Hospital(tmp_path / "hospital", train=9, test=2, val=0)
    cases = [
        Case.model_validate(case.model_dump() | {"label": CLASSES[number % 3]})
        for number, case in enumerate(Manifest.read(hospital.prepared))
    ]
    Manifest(hospital.prepared, cases).write()

    def head(case: Case) -> dict[str, Any]:
        dice = np.random.default_rng(int(case.id[-2:]))
        return {
            "predicted_probabilities": dict(
                zip(CLASSES, dice.dirichlet(np.ones(3)).tolist(), strict=True)
            ),
            "prompt_sha256": "f" * 64,
        }

    run = tmp_path / "run"
    synthetic(hospital, run / "samples", hospital.cases("train"), extra=head)
    classes = f"data.classes=[{', '.join(CLASSES)}]"
    only = "evaluate.metrics=[{name: text_head}]"
    evaluate(hospital.recipe(classes, only), run)
    found = json.loads((run / "evaluation" / "metrics.json").read_text())
    truth = [CLASSES.index(str(case.label)) for case in hospital.cases("train")]
    rows = np.array(
        [list(head(case)["predicted_probabilities"].values()) for case in hospital.cases("train")]
    )
    expected = roc_auc_score(truth, rows, multi_class="ovr", average="macro")
    assert found["metrics"]["text_auc"]["value"] == pytest.approx(expected, abs=1e-12)
    right = float((rows.argmax(axis=1) == truth).mean())
    assert found["metrics"]["text_accuracy"]["value"] == pytest.approx(right)
    each = found["one_vs_rest"]["text_with_report"]
    assert each["low"]["auc"]["value"] == pytest.approx(
        roc_auc_score(np.array(truth) == 0, rows[:, 0]), abs=1e-12
    )
    assert {"text/low", "text/middle", "text/high"} <= set(found["calibration"])
    # One of them named: the numbers of two classes.
    evaluate(hospital.recipe(classes, only, "data.positive=high"), run)
    assert "up to date" not in capsys.readouterr().out
    found = json.loads((run / "evaluation" / "metrics.json").read_text())
    expected = roc_auc_score(np.array(truth) == 2, rows[:, 2])
    assert found["metrics"]["text_auc"]["value"] == pytest.approx(expected, abs=1e-12)
    assert "text" in found["calibration"]
    assert "one_vs_rest" not in found
