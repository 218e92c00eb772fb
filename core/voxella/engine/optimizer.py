"""AdamW, and a learning rate that is a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from voxella.recipe.model import Optimizer

__all__ = ["build_optimizer", "learning_rate_factor"]


def learning_rate_factor(
    step: int,
    *,
    total_steps: int,
    power: float,
    warmup_steps: int = 0,
    milestones: Sequence[float] = (),
    milestone_factor: float = 0.1,
) -> float:
    """Return the factor on the learning rate of step ``step`` (from 0).

    Linear warm-up, then ``(1 - progress) ** power``: the paper's second-order polynomial decay to 0
    over the whole run, without warm-up. Power 0 keeps the rate constant.

    Args:
        step: From 0.
        total_steps: Of the run.
        power: Of the decay.
        warmup_steps: Before it.
        milestones: Shares of the run; from each on the rate is another ``milestone_factor`` of it.
        milestone_factor: See there.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    passed = sum(step >= round(share * total_steps) for share in milestones)
    span = max(1, total_steps - warmup_steps)
    progress = min(1.0, (step - warmup_steps) / span)
    return float((1.0 - progress) ** power * milestone_factor**passed)


def build_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    settings: Optimizer,
    *,
    total_steps: int,
    factor: Callable[[int], float] | None = None,
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """Return AdamW and its schedule, to be stepped once per optimizer step.

    The fused kernel does the same arithmetic in one pass over memory: several times faster than
    the default on the CPU too.

    Args:
        parameters: What is trained, or groups of it with rates of their own.
        settings: The recipe's ``optimizer`` block, or another of its kind.
        total_steps: The run's length in optimizer steps.
        factor: The factor on the learning rate of a step (from 0); None: the settings' own decay.
    """
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        factor
        or (
            lambda step: learning_rate_factor(
                step,
                total_steps=total_steps,
                power=settings.decay_power,
                warmup_steps=settings.warmup_steps,
                milestones=settings.milestones,
                milestone_factor=settings.milestone_factor,
            )
        ),
    )
    return optimizer, schedule
