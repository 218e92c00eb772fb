"""Which images, which epoch, which numbers: leaks, selection, intervals, comparison, networks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blob_scenarios import blob_recipe, chosen, real_cases, synthetic_cases
from safetensors import safe_open
from scipy import stats
from torch import Tensor, nn

from voxella.case import Case, Manifest
from voxella.classification.batches import ImageBatch, ImageBatchBuilder
from voxella.classification.best_checkpoint import BestCheckpoint, read_best
from voxella.classification.compare import compare_scenarios
from voxella.classification.examples import Example, require_validation
from voxella.classification.outcome import curves, over_seeds
from voxella.classification.predict import read_predictions, write_predictions
from voxella.classification.store import InputStore
from voxella.cli import main
from voxella.errors import UserError
from voxella.metrics.comparison import compare_accuracy, compare_auc
from voxella.metrics.delong import auc_estimate
from voxella.metrics.estimate import Estimate
from voxella.metrics.predictions import Predictions
from voxella.ranks import Ranks
from voxella_classifiers.plugin import build_resnet

ALONE = Ranks(0, 0, 1)


def test_resnet_has_the_published_size() -> None:
    with torch.device("meta"):
        module = build_resnet(spatial_dims=2, in_channels=3, num_classes=1000)
    assert isinstance(module, nn.Module)
    # ResNet-18 for ImageNet, as torchvision documents it.
    assert sum(parameter.numel() for parameter in module.parameters()) == 11_689_512
    with pytest.raises(UserError, match="depth 20"):
        build_resnet(spatial_dims=3, in_channels=1, num_classes=2, depth=20)


# which images


@pytest.fixture
def real(tmp_path: Path) -> Manifest:
    return real_cases(tmp_path / "prepared", {"train": 4, "val": 2, "test": 2})


def with_cases(manifest: Manifest, **changes: Any) -> Manifest:
    """The manifest with its first case changed."""
    first = manifest.cases[0].model_copy(update=changes)
    return Manifest(manifest.folder, [first, *manifest.cases[1:]])


def ids(examples: dict[str, Example]) -> set[str]:
    return set(examples)


def test_the_scenarios_train_on_what_their_names_say(real: Manifest, tmp_path: Path) -> None:
    made = synthetic_cases(tmp_path / "made", real)
    own, counterparts = {c.id for c in real.split("train")}, {c.id for c in made}
    expected = {
        "real": [own],
        "synth_clinical": [counterparts],
        "synth_predicted": [counterparts],
        "real_synth_clinical": [own | counterparts],
        "real_synth_predicted": [own | counterparts],
        "pretrain_finetune": [counterparts, own],
    }
    for name, phases in expected.items():
        found = chosen(blob_recipe(name), real, None if name == "real" else made)
        assert [ids(examples) for _, examples in found.phases] == phases, name
        assert ids(found.val) == {"real-val-0", "real-val-1"}
        assert ids(found.test) == {"real-test-0", "real-test-1"}


def test_predicted_labels_are_the_text_heads(real: Manifest, tmp_path: Path) -> None:
    made = synthetic_cases(tmp_path / "made", real)
    other = {**made.cases[0].extra, "predicted_label": "positive"}
    made = with_cases(made, extra=other)
    assert made.cases[0].label == "negative"
    for name, target in (("synth_clinical", 0), ("synth_predicted", 1)):
        found = chosen(blob_recipe(name), real, made)
        assert found.phases[0][1][made.cases[0].id].target == target
    headless = Manifest(made.folder, [_without_prediction(case) for case in made])
    with pytest.raises(UserError, match="the model has no class head"):
        chosen(blob_recipe("synth_predicted"), real, headless)


def _without_prediction(case: Case) -> Case:
    return case.model_copy(update={"extra": {**case.extra, "predicted_label": None}})


def test_cases_without_a_label_are_left_out_and_counted(real: Manifest) -> None:
    found = chosen(blob_recipe("real"), with_cases(real, label=None), None)
    assert len(found.phases[0][1]) == 3
    assert found.left_out == {"real, train": 1}
    with pytest.raises(UserError, match=r"label 'malignant' of 1 case\(s\) \(real-train-0\)"):
        chosen(blob_recipe("real"), with_cases(real, label="malignant"), None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source_case": "real-test-1"}, "were made from cases of the split test"),
        ({"source_case": "real-val-0"}, "were made from cases of the split val"),
        ({"source_case": "elsewhere-7"}, "were made from cases that the real data set does not"),
        ({"synthetic": False}, "do not say what they were made from"),
    ],
)
def test_counterparts_of_held_out_cases_are_refused(
    real: Manifest, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    made = synthetic_cases(tmp_path / "made", real)
    made = with_cases(made, extra={**made.cases[0].extra, **changes})
    for name in ("synth_clinical", "real_synth_clinical", "pretrain_finetune"):
        with pytest.raises(UserError, match=words) as error:
            chosen(blob_recipe(name), real, made)
        assert f"leak: 1 synthetic case(s) {words}" in str(error.value)
        assert made.cases[0].id in str(error.value)


def test_a_held_out_patient_or_report_behind_another_name_is_refused(
    real: Manifest, tmp_path: Path
) -> None:
    made = synthetic_cases(tmp_path / "made", real)
    patient = with_cases(made, group="synthetic-p-real-test-0")
    with pytest.raises(UserError, match="were made for patients of val or test"):
        chosen(blob_recipe("synth_clinical"), real, patient)
    moved = [case.model_copy(update={"split": "test"}) for case in made]
    with pytest.raises(UserError, match="are of the split test"):
        chosen(blob_recipe("synth_clinical"), real, Manifest(made.folder, moved))

    known = [c.model_copy(update={"texts_sha256": {"report": f"hash of {c.id}"}}) for c in real]
    prompt = {"source_case": "a1", "prompt_sha256": "hash of real-test-0"}
    asked = with_cases(made, group="synthetic-prompt-a1", extra={**made.cases[0].extra, **prompt})
    with pytest.raises(UserError, match="prompts that are reports of val or test"):
        chosen(blob_recipe("synth_clinical"), Manifest(real.folder, known), asked)
    free = with_cases(asked, extra={**asked.cases[0].extra, "prompt_sha256": "of nobody"})
    assert chosen(blob_recipe("synth_clinical"), Manifest(real.folder, known), free).phases


def test_of_counterparts_of_all_splits_those_of_training_cases_are_meant(
    real: Manifest, tmp_path: Path
) -> None:
    made = synthetic_cases(tmp_path / "made", real)
    held_out = made.cases[0].id
    found = chosen(blob_recipe("real_synth_clinical"), real, with_cases(made, split="test"))
    (_, trained_on), *_ = found.phases
    assert found.held_out_counterparts == 1
    assert held_out not in trained_on
    assert {case.id for case in made} - {held_out} <= set(trained_on)


def test_everything_that_forbids_training_is_told_at_once(tmp_path: Path) -> None:
    real = real_cases(tmp_path / "prepared", {"train": 2, "test": 2})
    made = synthetic_cases(tmp_path / "made", real)
    extra = {**made.cases[0].extra, "space": "source"}
    moved = [case.model_copy(update={"extra": extra, "split": "val"}) for case in made]
    made = Manifest(made.folder, moved)
    with pytest.raises(UserError) as error:
        chosen(blob_recipe("synth_clinical"), real, made)
    message = str(error.value)
    assert "are of the split val" in message
    assert "no labelled case in the split val" in message
    assert "--set val_share=0.1" in message
    assert "2 synthetic cases lie on their scans' grids" in message
    with pytest.raises(UserError, match="no labelled case in the split val"):
        require_validation(real)


def test_one_class_alone_is_refused_or_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = real_cases(tmp_path / "prepared", {"train": 1, "val": 2})
    recipe = blob_recipe("real", "classify.on_one_class=stop")
    with pytest.raises(UserError, match=r"1 case\(s\), none of class positive"):
        chosen(recipe, real, None)
    assert chosen(blob_recipe("real"), real, None).phases
    assert "none of class positive" in capsys.readouterr().out


# which epoch


class _Engine:
    """Answers what a script says, in the place of a network under DeepSpeed."""

    def __init__(self) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        self.script: dict[str, tuple[float, float]] = {}

    def eval(self) -> None: ...
    def train(self) -> None: ...
    def empty_partition_cache(self) -> None: ...

    def __call__(self, batch: ImageBatch) -> dict[str, Tensor]:
        probability, loss = zip(*(self.script[case] for case in batch.case_ids), strict=True)
        likely = torch.tensor(probability, dtype=torch.float64)
        logits = torch.stack([torch.zeros_like(likely), torch.logit(likely)], dim=1)
        return {"logits": logits, "loss_per_case": torch.tensor(loss)}


def test_the_best_auc_wins_then_the_lowest_loss_then_the_first(
    real: Manifest, tmp_path: Path
) -> None:
    recipe = blob_recipe("real")
    assert recipe.classify is not None
    store = InputStore(tmp_path / "inputs", recipe.classify, ["t2w"])
    examples = chosen(recipe, real, None)
    store.build(examples.all.values(), ALONE)
    builder = ImageBatchBuilder(examples.val, store, ["negative", "positive"], "positive", seed=0)

    def choice(first: int = 0, training: str = "a") -> BestCheckpoint:
        return BestCheckpoint(
            tmp_path / "fit", builder, ALONE, 1, every=1, last=9, training=training, first=first
        )

    engine, chooser = _Engine(), choice()
    # Step -> probability of the negative and of the positive case, mean loss.
    steps = {
        1: (0.6, 0.4, 0.1),  # AUC 0
        2: (0.4, 0.6, 0.5),  # AUC 1
        3: (0.2, 0.9, 0.3),  # AUC 1, a lower loss: the one
        4: (0.1, 0.8, 0.3),  # its equal, later
        5: (0.5, 0.5, 0.1),  # AUC one half
    }
    for step, (negative, positive, loss) in steps.items():
        engine.script = {"real-val-0": (negative, loss), "real-val-1": (positive, loss)}
        nn.init.constant_(engine.module.weight, step)
        found = chooser.measure(engine, step)
        assert found["validation/loss"] == pytest.approx(loss)
    weights, facts = read_best(tmp_path / "fit")
    assert weights["weight"].item() == 3.0
    assert (facts["step"], facts["auc"], facts["loss"]) == (3, 1.0, pytest.approx(0.3))
    with safe_open(tmp_path / "fit" / "best.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["voxella"])["training"] == "a"

    # Killed after step 4's checkpoint: 5 is measured anew, 3 stays the best one to beat.
    resumed = choice(first=4)
    resumed.catch_up(engine, None, 4)
    lines = (tmp_path / "fit" / "validation.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    resumed.catch_up(engine, None, 5)
    assert read_best(tmp_path / "fit")[1]["step"] == 3
    # What another training left is no candidate.
    choice(training="b").measure(engine, 1)
    assert read_best(tmp_path / "fit")[1]["step"] == 1


# which numbers


def predictions(scores: list[float], truth: list[int]) -> Predictions:
    return Predictions.of([f"c{n}" for n in range(len(truth))], truth, scores)


TRUTH = [0, 0, 0, 1, 1, 1, 0, 1]
FIRST = [0.1, 0.4, 0.35, 0.8, 0.3, 0.9, 0.2, 0.7]
SECOND = [0.6, 0.4, 0.5, 0.45, 0.3, 0.9, 0.55, 0.7]


def test_several_seeds_give_their_mean_and_students_interval() -> None:
    values = [0.70, 0.74, 0.81]
    seeds = [
        dict.fromkeys(
            ("auc", "ap", "accuracy", "sensitivity", "specificity", "ppv", "npv"),
            Estimate(value, None, None, 40),
        )
        for value in values
    ]
    found = over_seeds(seeds)["auc"]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high))
    assert found.n == 40
    assert "3 trainings" in found.how
    one = {**seeds[0], "auc": Estimate.undefined(0, "only one class")}
    assert over_seeds([one])["auc"] is one["auc"]
    partly = over_seeds([one, *seeds[1:]])["auc"]
    assert partly.value == pytest.approx((0.74 + 0.81) / 2)
    assert (partly.n, partly.note) == (40, "undefined in 1 of 3 trainings, left out")
    assert over_seeds([one, one])["auc"].value is None
    far = [{**seeds[0], "auc": Estimate(value, None, None, 40)} for value in (0.3, 0.9)]
    assert (over_seeds(far)["auc"].low, over_seeds(far)["auc"].high) == (0.0, 1.0)


def test_the_curve_has_the_area_that_the_auc_says() -> None:
    test = predictions(FIRST, TRUTH)
    found = curves(test)
    assert found is not None
    roc = found["roc"]
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(auc_estimate(test.truth, test.scores).value)
    assert roc["threshold"][0] is None
    assert not any(value is not None and math.isinf(value) for value in roc["threshold"])
    assert (found["pr"]["recall"][0], found["pr"]["recall"][-1]) == (1.0, 0.0)
    assert json.loads(json.dumps(found)) == found
    single = curves(predictions([0.2, 0.3], [1, 1]))
    assert single is not None
    assert single["roc"] is None
    assert curves(None) is None


def test_predictions_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, {"test": predictions(FIRST, TRUTH), "val": predictions([0.5], [1])})
    found = read_predictions(path, "test")
    assert found is not None
    assert (found.scores == predictions(FIRST, TRUTH).scores).all()
    assert found.patients == found.ids
    assert read_predictions(path, "train") is None
    keys = {"case", "patient", "split", "truth", "probability"}
    assert all(set(json.loads(line)) == keys for line in path.read_text().splitlines())
    with pytest.raises(UserError, match=r"does not exist\n  next:     voxella classify"):
        read_predictions(tmp_path / "absent.jsonl", "test")


def test_scenarios_are_compared_case_by_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = predictions(FIRST, TRUTH), predictions(SECOND, TRUTH)
    swapped = predictions(SECOND[::-1], TRUTH)
    home = tmp_path / "classify"
    for name, tests in {"a": [first], "b": [second, swapped], "c": [first]}.items():
        for seed, test in enumerate(tests):
            write_predictions(home / name / f"seed-{seed}" / "predictions.jsonl", {"test": test})
    write_predictions(
        home / "d" / "seed-0" / "predictions.jsonl", {"test": predictions([0.5, 0.6], [0, 1])}
    )
    assert main(["classify", "--compare", str(home / "a"), str(home / "c")]) == 0
    assert main(["classify", "--compare", str(home / "a"), str(home / "b")]) == 0
    assert "McNemar" in capsys.readouterr().out
    found = json.loads((home / "comparison.json").read_text())["comparisons"]
    same = found["a - c"]
    assert (same["auc"]["difference"]["value"], same["accuracy"]["p_value"]) == (0.0, 1.0)
    entry = found["a - b"]
    mean = predictions([(x + y) / 2 for x, y in zip(SECOND, SECOND[::-1], strict=True)], TRUTH)
    assert entry["auc"] == compare_auc(first, mean).as_json()
    assert entry["accuracy"] == compare_accuracy(first, mean).as_json()
    assert entry["seeds"]["0"]["auc"] == compare_auc(first, second).as_json()
    assert list(entry["seeds"]) == ["0"]
    assert entry["trainings"] == [1, 2]
    out = compare_scenarios(home / "b", home / "c", tmp_path)
    assert out == tmp_path / "comparison.json"
    with pytest.raises(UserError, match="the same cases"):
        compare_scenarios(home / "a", home / "d")
    with pytest.raises(UserError, match="no predictions of test cases"):
        compare_scenarios(home / "a", home / "absent")
    assert main(["classify"]) == 2
    assert "--compare with two folders" in capsys.readouterr().err
