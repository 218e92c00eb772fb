"""The loss scale by itself: it grows, shrinks, gives up with one message, and is continued."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import encoded_run, tiny_recipe
from torch import nn

from voxella.engine import precision
from voxella.engine.loss_scale import LossScale, LossScaleError
from voxella.engine.refusals import refuse_losses
from voxella.errors import UserError
from voxella.ldm.train import train
from voxella.ranks import Ranks


class Engine:
    """As much of a DeepSpeed engine as is asked."""

    def __init__(self, *, applied: bool = True) -> None:
        self.module = nn.Linear(2, 1)
        self.rates = 0
        self.applied = applied
        self.lr_scheduler = SimpleNamespace(step=self._rate)

    def was_step_applied(self) -> bool:
        return self.applied

    def _rate(self) -> None:
        self.rates += 1


def scale_of(engine: Engine, *, enabled: bool = True) -> tuple[LossScale, torch.optim.AdamW]:
    optimizer = torch.optim.AdamW(engine.module.parameters(), lr=0.1, fused=True)
    return LossScale(engine, optimizer, Ranks(0, 0, 1), enabled=enabled), optimizer


def backward(engine: Engine, scale: LossScale, factor: float) -> None:
    engine.module.zero_grad()
    loss = engine.module(torch.ones(1, 2)).float().sum() * factor
    scale.scaled(loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def test_gradients_are_true_as_soon_as_they_are_there() -> None:
    """Where float16 alone would have lost them: 1e-9 is zero in it."""
    engine = Engine()
    scale, _ = scale_of(engine)
    backward(engine, scale, 1e-9)
    assert engine.module.weight.grad is not None
    assert torch.allclose(engine.module.weight.grad, torch.full((1, 2), 1e-9), rtol=1e-3)
    assert float(torch.tensor(1e-9).half()) == 0


def test_an_overflowed_step_leaves_weights_and_moments_alone() -> None:
    engine = Engine()
    scale, optimizer = scale_of(engine)
    backward(engine, scale, 1e-3)
    scale.settle(1)
    optimizer.step()
    kept = [value.clone() for value in (engine.module.weight, engine.module.bias)]
    moments = optimizer.state[engine.module.weight]
    before = {name: value.clone() for name, value in moments.items()}
    backward(engine, scale, float("nan"))
    scale.settle(2)
    optimizer.step()
    assert scale.skips()
    assert all(map(torch.equal, kept, (engine.module.weight, engine.module.bias)))
    assert all(torch.equal(value, before[name]) for name, value in moments.items())
    assert engine.rates == 0, "stage 0 steps the schedule itself"
    assert (scale.value, scale.skipped) == (2.0**15, 1)


def test_the_schedule_goes_on_where_deepspeed_left_it() -> None:
    engine = Engine(applied=False)
    scale, _ = scale_of(engine)
    backward(engine, scale, float("inf"))
    scale.settle(1)
    assert scale.skips()
    assert engine.rates == 1


def test_the_scale_doubles_after_two_thousand_good_steps_and_is_continued() -> None:
    scale, _ = scale_of(Engine())
    for step in range(1999):
        scale.settle(step)
    continued, _ = scale_of(Engine())
    continued.load_state_dict(scale.state_dict())
    assert continued.value == 2.0**16
    continued.settle(1999)
    assert continued.scalars() == {"loss_scale": 2.0**17, "skipped_steps": 0.0}


def test_at_the_smallest_scale_training_stops_with_one_message() -> None:
    engine = Engine()
    scale, _ = scale_of(engine)
    scale.load_state_dict({"value": 2.0, "since": 7, "skipped": 3})
    backward(engine, scale, float("inf"))
    scale.settle(8)
    assert scale.value == 1.0
    backward(engine, scale, float("inf"))
    with pytest.raises(LossScaleError):
        scale.settle(9)
    backward(engine, scale, float("inf"))
    monitor: Any = SimpleNamespace(check=lambda step: None)
    checkpoints: Any = SimpleNamespace(complete=lambda: [(6, "RUN/checkpoints/step-00000006")])
    with pytest.raises(UserError, match="step 10 does not fit into float16") as caught:
        refuse_losses(monitor, scale, 10, checkpoints)
    for words in ("65,504", "step-00000006", "--set deepspeed.torch_autocast.enabled=false"):
        assert words in str(caught.value)


def test_a_whole_model_trains_in_float16_what_it_trains_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, gradient norms and weights of four steps of 1e-4, U-Net and connector and all."""
    # Refused to users on a CPU, for its speed; this model is small.
    monkeypatch.setattr(precision, "lacks", lambda device, dtype: None)
    runs, half = {}, "deepspeed.torch_autocast={enabled: true, dtype: float16}"
    for name, more in {"fp32": (), "fp16": (half, "train.gradient_checkpointing=true")}.items():
        recipe = tiny_recipe("train.log_every=1", "optimizer.lr=1e-4", *more)
        encoded_run(recipe, tmp_path / name)
        train(recipe, tmp_path / name)
        lines = (tmp_path / name / "train" / "log.jsonl").read_text().splitlines()
        weights = load_file(tmp_path / name / "model" / "model.safetensors")
        runs[name] = [json.loads(line) for line in lines], weights
    for key in ("loss/total", "grad_norm"):
        exact = [line[key] for line in runs["fp32"][0]]
        assert [line[key] for line in runs["fp16"][0]] == pytest.approx(exact, rel=1e-3)
    assert [line["skipped_steps"] for line in runs["fp16"][0]] == [0] * 4
    for name, weight in runs["fp32"][1].items():
        torch.testing.assert_close(runs["fp16"][1][name], weight, rtol=0, atol=2e-4)


def test_in_float32_nothing_is_scaled_or_checked() -> None:
    engine = Engine()
    forward = engine.module.forward
    scale, _ = scale_of(engine, enabled=False)
    backward(engine, scale, float("inf"))
    scale.settle(1)
    assert not scale.skips()
    assert scale.scalars() == {}
    assert engine.module.forward == forward
