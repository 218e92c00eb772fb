"""Learning rate, AdamW and the moving average."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voxella.engine.ema import Ema, Masters
from voxella.engine.optimizer import build_optimizer, learning_rate_factor
from voxella.recipe.model import Optimizer

# Float32 weights are their own originals: nothing is asked of an engine.
_NO_ENGINE = SimpleNamespace(optimizer=None)


@given(total=st.integers(1, 500), power=st.sampled_from([0.0, 1.0, 2.0]))
def test_rate_equals_torchs_polynomial(total: int, power: float) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=total, power=power)
    for step in range(min(total, 20)):
        mine = learning_rate_factor(step, total_steps=total, power=power)
        assert math.isclose(mine, reference.get_last_lr()[0], rel_tol=1e-6, abs_tol=1e-9)
        optimizer.step()
        reference.step()


def test_warm_up_rises_then_decays_to_zero() -> None:
    rates = [
        learning_rate_factor(step, total_steps=100, power=2, warmup_steps=10) for step in range(101)
    ]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10] == 1.0
    assert rates[100] == 0.0


def test_fused_adamw_is_adamw() -> None:
    torch.manual_seed(0)
    start = torch.randn(50)
    gradients = torch.randn(30, 50)
    mine, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = Optimizer(lr=1e-2, decay_power=0)
    optimizer, schedule = build_optimizer([mine], settings, total_steps=30)
    reference = torch.optim.AdamW([theirs], lr=1e-2, weight_decay=0.01, foreach=False, fused=False)
    for gradient in gradients:
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        schedule.step()
        reference.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_average_follows_the_recursion_and_comes_back() -> None:
    layer = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    ema = Ema(layer, Masters(_NO_ENGINE), decay=0.5)
    expected = 1.0
    for step, value in enumerate((3.0, -2.0, 7.0), start=1):
        with torch.no_grad():
            layer.weight.fill_(value)
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with ema.applied():
        assert layer.weight.tolist()[0] == pytest.approx([expected] * 2)
    assert layer.weight.tolist()[0] == [7.0, 7.0]
    other = Ema(layer, Masters(_NO_ENGINE), decay=0.5)
    other.load_state_dict(ema.state_dict())
    assert other.steps == 3
    assert other.shadow[0].tolist()[0] == pytest.approx([expected] * 2)


@pytest.mark.parametrize("warmup", [0, 3])
def test_milestones_are_torchs(warmup: int) -> None:
    """Epochs 20 and 30 of 40, of 5 steps each, as MultiStepLR has them."""
    weight = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([weight], lr=1.0), [20, 30], 0.1)
    for step in range(200):
        mine = learning_rate_factor(
            step, total_steps=200, power=0, warmup_steps=warmup, milestones=[0.5, 0.75]
        )
        if step >= warmup:
            assert mine == pytest.approx(theirs.get_last_lr()[0])
        if step % 5 == 4:
            theirs.optimizer.step()
            theirs.step()


def test_the_recipes_milestones_reach_the_optimizer() -> None:
    settings = Optimizer(lr=1e-3, decay_power=0, milestones=[0.5], milestone_factor=0.2)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, schedule = build_optimizer([weight], settings, total_steps=4)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1e-3, 1e-3, 2e-4, 2e-4])
    # What decided trainings of before has not changed.
    assert not {"milestones", "milestone_factor"} & Optimizer().model_dump().keys()
