"""Validation losses: on the disk once each, whatever kills a training, and on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_reader import Elements
from tiny_run import encoded_run, tiny_recipe

from voxella.engine.checkpoints import Checkpoints
from voxella.ldm.train import train
from voxella.recipe.load import dump_recipe
from voxella.report.curves import curves_section, read_log
from voxella.report.page import run_page
from voxella.report.run_folder import RunFolder

VALIDATED = "validation/reconstruction"
DECIDED = ("step", "loss/reconstruction", "lr", VALIDATED)


def lines(run: Path) -> list[dict[str, Any]]:
    """The log without what depends on the machine."""
    read = [json.loads(line) for line in (run / "train" / "log.jsonl").open()]
    return [{key: line[key] for key in DECIDED if key in line} for line in read]


def test_a_kill_neither_loses_nor_doubles_a_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe("train.validate_every=1", "train.log_every=2")
    for name in ("whole", "killed"):
        encoded_run(recipe, tmp_path / name, held_out=2)
    train(recipe, tmp_path / "whole")
    whole, killed = lines(tmp_path / "whole"), tmp_path / "killed"
    # Each step has one line; the one of step 3 has only what was measured then.
    assert [line["step"] for line in whole] == [1, 2, 3, 4]
    assert [sorted(line) for line in whole[2:]] == [
        sorted(["step", VALIDATED]),
        sorted(DECIDED),
    ]

    save = Checkpoints.save

    def die(self: Checkpoints, engine: Any, ema: Any, step: int, *more: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt
        save(self, engine, ema, step, *more)

    # The last moment before the checkpoint: the validation of step 4 is on the disk by then.
    monkeypatch.setattr(Checkpoints, "save", die)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, killed)
    monkeypatch.undo()
    assert [line["step"] for line in lines(killed)] == [1, 2, 3, 4]
    train(recipe, killed)
    assert lines(killed) == whole


def test_training_and_validation_stand_in_one_chart_and_the_page_says_whose(
    tmp_path: Path,
) -> None:
    recipe = tiny_recipe()
    (tmp_path / "train").mkdir()
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    log = tmp_path / "train" / "log.jsonl"
    log.write_text('{"step": 1, "loss/reconstruction": 1.0}\n')
    (without,) = curves_section(RunFolder.open(tmp_path)).data
    assert [line.name for line in without.lines] == ["reconstruction"]

    log.write_text(
        '{"step": 1, "loss/reconstruction": 1.0}\n{"step": 2, "validation/reconstruction": 0.8}\n'
        '{"step": 3, "loss/reconstruction": 0.5, "validation/reconstruction": 0.7}\n'
    )
    chart = curves_section(RunFolder.open(tmp_path)).data[0]
    ends = {line.name: (line.first, line.last) for line in chart.lines}
    assert ends == {"training": (1.0, 0.5), "validation, averaged weights": (0.8, 0.7)}
    # Places on the horizontal axis: step 2 lies in the middle of steps 1 and 3.
    left, right = (dot[0] for dot in chart.lines[0].dots)
    assert chart.lines[1].dots[0][0] == pytest.approx((left + right) / 2, abs=0.1)
    assert read_log(log)[VALIDATED] == [(2.0, 0.8), (3.0, 0.7)]
    assert (
        "the averaged weights (EMA) on the cases of the split val"
        in Elements(run_page(RunFolder.open(tmp_path))).text
    )

    plain = tiny_recipe("train.ema_decay=null")
    (tmp_path / "recipe.yaml").write_text(dump_recipe(plain))
    chart = curves_section(RunFolder.open(tmp_path)).data[0]
    assert [line.name for line in chart.lines] == ["training", "validation, model"]
    assert "the model on the cases" in chart.note


def test_validation_by_noise_level_has_the_zero_predictors_line(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "recipe.yaml").write_text(dump_recipe(tiny_recipe()))
    name = "validation_over_zero/timestep_quartile_{}"
    told = [
        {"step": 1, "loss/reconstruction": 1.0},
        {"step": 2, name.format(1): 0.99, name.format(4): 0.4},
        {"step": 4, name.format(1): 0.9, name.format(4): 0.3},
    ]
    log = tmp_path / "train" / "log.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in told))
    charts = curves_section(RunFolder.open(tmp_path)).data
    (chart,) = (c for c in charts if c.title.startswith("Validation loss over"))
    ends = {line.name: (line.first, line.last) for line in chart.lines}
    assert ends == {
        "least noise": (0.99, 0.9),
        "most noise": (0.4, 0.3),
        "predicting zero": (1.0, 1.0),
    }
    assert "Held-out cases" in chart.note
    assert chart.title in Elements(run_page(RunFolder.open(tmp_path))).text
