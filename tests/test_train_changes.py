"""Other settings in a run that is trained: every key by name, and a command that can be pasted."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from tiny_run import encoded_run, tiny_recipe

from voxella.errors import UserError
from voxella.ldm.train import train
from voxella.provenance import running
from voxella.workspace.changes import keep_inputs, refuse_changed
from voxella.workspace.record import StageRecord


def refusal(record: StageRecord, folder: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        refuse_changed(record, run=folder / "R", work=folder / "R")
    return caught.value


def test_a_longer_training_and_another_batch_are_named_by_their_keys(tmp_path: Path) -> None:
    run = tmp_path / "R"
    finished = tiny_recipe("train.steps=2")
    encoded_run(finished, run)
    assert train(finished, run) is not None
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ["train", "recipes/ccella.yaml", "--out", str(run), "--set", "train.steps=3"]
    with running(words), pytest.raises(UserError) as caught:
        train(tiny_recipe("train.steps=3"), run)
    lines = caught.value.problem.splitlines()
    assert lines[1:] == ["  train.steps: 2 -> 3"]
    assert caught.value.remedy is not None
    command = [
        *("voxella", "train", "recipes/ccella.yaml", "--set", "train.steps=3"),
        *("--workspace", str(run), "--out", str(tmp_path / "R-2")),
    ]
    assert shlex.join(command) in caught.value.remedy
    assert "to extend" in caught.value.remedy
    assert caught.value.remedy.endswith("to keep what is trained: --set train.steps=2")
    with pytest.raises(UserError) as caught:
        train(tiny_recipe("train.steps=2", "deepspeed.train_batch_size=2", "seed=5"), run)
    assert caught.value.problem.splitlines()[1:] == [
        "  seed: 0 -> 5",
        "  deepspeed.train_batch_size: 4 -> 2",
    ]
    assert "another run folder" in str(caught.value.remedy)
    # What decides nothing of the training may change, and nothing was touched.
    assert {path: path.read_bytes() for path in before} == before
    train(tiny_recipe("train.steps=2", "train.log_every=2", "sample.count=2"), run)


def test_a_training_that_was_stopped_is_known_by_its_settings_too(tmp_path: Path) -> None:
    run = tmp_path / "R"
    stopped = tiny_recipe("optimizer.lr=0.001")
    encoded_run(stopped, run)
    assert train(stopped, run, stop_after=2) is None
    with pytest.raises(UserError, match=r"optimizer\.lr: 0\.001 -> 0\.0001"):
        train(tiny_recipe(), run)
    # Without what was kept, as earlier versions left it, it is still not taken for the same.
    (run / "train" / "inputs.json").unlink()
    with pytest.raises(UserError, match="another recipe"):
        train(tiny_recipe(), run)


def test_other_data_is_told_from_other_settings(tmp_path: Path) -> None:
    old = StageRecord(tmp_path, "train", {"latents": "a", "cases": "b", "train": {"steps": 4}})
    keep_inputs(old)
    refuse_changed(old, run=tmp_path, work=tmp_path)
    new = StageRecord(tmp_path, "train", {"latents": "c", "cases": "b", "train": {"steps": 4}})
    error = refusal(new, tmp_path)
    assert error.problem.splitlines()[1:] == [
        "  the latents: images, prepare settings or autoencoder"
    ]
    # Caches of other data are not to be shared.
    assert "--workspace" not in str(error.remedy)
    assert "with the former data" in str(error.remedy)


def test_a_component_that_is_replaced_shows_its_keys(tmp_path: Path) -> None:
    keep_inputs(StageRecord(tmp_path, "train", {"conditioner": {"name": "ella", "width": 16}}))
    new = StageRecord(tmp_path, "train", {"conditioner": {"name": "none"}, "classes": ["a"]})
    assert refusal(new, tmp_path).problem.splitlines()[1:] == [
        '  conditioner.name: "ella" -> "none"',
        "  conditioner.width: 16 -> absent",
        '  data.classes: absent -> ["a"]',
    ]
    (tmp_path / "inputs.json").write_text("[")
    refuse_changed(new, run=tmp_path, work=tmp_path)  # not known: the checkpoint's hash decides
    (tmp_path / "stage.json").write_text(json.dumps({"inputs": {"seed": 3}}))
    assert "  seed: 3 -> absent" in refusal(new, tmp_path).problem
