"""When training stops by itself, and what the user is told."""

from __future__ import annotations

import math

from voxella.engine.checkpoints import Checkpoints
from voxella.engine.log import NonFiniteLossError
from voxella.engine.loss_scale import LossScale, LossScaleError
from voxella.engine.task import Monitoring
from voxella.errors import UserError

__all__ = ["refuse_gradient", "refuse_losses"]


def refuse_losses(
    monitor: Monitoring,
    scale: LossScale,
    step: int,
    checkpoints: Checkpoints,
    rate: str = "optimizer.lr",
) -> None:
    """Stop at a loss, or in float16 a gradient, that no further training fixes; collective.

    Args:
        monitor: Knows the losses.
        scale: Knows the gradients.
        step: The step, from 1.
        checkpoints: Of the training.
        rate: The recipe's key of the learning rate.

    Raises:
        UserError: Naming step, cases, and the last good checkpoint.
    """
    try:
        monitor.check(step)
        scale.settle(step)
    except (NonFiniteLossError, LossScaleError) as error:
        hint = "; --set deepspeed.torch_autocast.enabled=false trains in float32"
        raise _stopped(f"{error}{hint if scale.enabled else ''}", checkpoints, rate) from error


def refuse_gradient(
    norm: float | None, step: int, checkpoints: Checkpoints, rate: str = "optimizer.lr"
) -> None:
    """Stop at a gradient that is not finite under a loss still finite, where it is measured.

    Under ZeRO DeepSpeed has left the weights alone; in float32 and bfloat16 it is no routine.

    Raises:
        UserError: Naming step and the last good checkpoint.
    """
    if norm is not None and not math.isfinite(norm):
        raise _stopped(f"the gradient of step {step} is not finite", checkpoints, rate)


def _stopped(problem: str, checkpoints: Checkpoints, rate: str) -> UserError:
    found = checkpoints.complete()
    safe = f"the last good checkpoint is {found[-1][1]}" if found else "no checkpoint was due yet"
    return UserError(
        f"{problem}; training stopped and {safe}",
        remedy="look at the step's cases (voxella prepare wrote them), or lower the rate: "
        f"--set {rate}=5e-5; then run the same command again",
    )
