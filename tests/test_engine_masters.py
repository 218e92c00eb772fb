"""Under DeepSpeed's bf16 block, averages and exports are of the float32 weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voxella.engine.ema import Ema, Masters
from voxella.engine.runtime import gather_state, initialize
from voxella.ranks import Ranks

STEPS = 4
LR = 1e-3


def _layers() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 7), nn.SiLU(), nn.Linear(7, 3))


def _images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn(2, 5, generator=generator).bfloat16() for _ in range(STEPS)]


def _by_hand(*, first_on_zeros: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Train float32 weights with the gradients of their rounded copies; return them, averaged."""
    exact, rounded = _layers(), _layers().bfloat16()
    # The originals begin where the cast left them.
    exact.load_state_dict({k: v.float() for k, v in rounded.state_dict().items()})
    optimizer = torch.optim.AdamW(exact.parameters(), lr=LR)
    average = {k: v.clone() for k, v in exact.state_dict().items()}
    if first_on_zeros:
        for parameter in exact.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for x in _images():
        rounded.zero_grad()
        rounded(x).float().square().mean().backward()
        for high, low in zip(exact.parameters(), rounded.parameters(), strict=True):
            assert low.grad is not None
            high.grad = low.grad.float()
        optimizer.step()
        rounded.load_state_dict(exact.state_dict())
        # Less than (1 + n) / (10 + n) for every n here, so the average is a plain one.
        average = {k: v.lerp(exact.state_dict()[k], 0.9) for k, v in average.items()}
    return exact.state_dict(), average


def _engine(stage: int) -> Any:
    module = _layers()
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    config = {
        "train_batch_size": 2,
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": True},
        "zero_optimization": zero,
        "steps_per_print": 10**9,
    }
    return initialize(Ranks.from_environment(), module, config, optimizer, rate)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_weights_and_average_are_not_rounded(stage: int) -> None:
    engine = _engine(stage)
    ema = Ema(engine.module, Masters(engine), decay=0.1)
    for x in _images():
        engine.backward(engine(x).float().square().mean())
        engine.step()
        ema.update()
    # At stage 0 DeepSpeed makes room for the optimizer's state by a step on zero gradients.
    trained, averaged = _by_hand(first_on_zeros=stage == 0)
    found = gather_state(engine.module, keep=True, whole=Masters(engine).whole)
    mean = gather_state(engine.module, keep=True, whole=ema.whole)
    assert found.keys() == mean.keys() == trained.keys()
    for name, wanted in trained.items():
        torch.testing.assert_close(found[name], wanted, rtol=0, atol=1e-6)
        torch.testing.assert_close(mean[name], averaged[name], rtol=0, atol=1e-6)
        # What a bfloat16 could have held would be off by far more.
        assert (found[name].bfloat16().float() - wanted).abs().max() > 1e-5
