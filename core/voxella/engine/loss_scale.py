"""Training in float16: autocast inside the module, gradients unscaled where they meet weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from voxella.ranks import Ranks

__all__ = ["LossScale", "LossScaleError"]

# As torch.amp.GradScaler has them.
_FIRST, _SMALLEST, _GROW_AFTER = 2.0**16, 1.0, 2000


class LossScaleError(RuntimeError):
    """A gradient overflows float16 although the loss is not scaled any more."""

    def __init__(self, step: int, skipped: int) -> None:
        super().__init__(
            f"the gradient of step {step} does not fit into float16, whose largest number is "
            f"65,504, even with the loss unscaled ({skipped} steps skipped)"
        )


class LossScale:
    """Scales the loss, so that small gradients do not vanish in float16; skips what overflows.

    The loss is multiplied by a power of two (Micikevicius et al. 2018, arXiv 1710.03740, section
    3.2). Each gradient is divided by it, exactly, as it arrives at its float32 weight, before
    anything else sees it: sums over micro batches and processes, ZeRO's partitions, the norm and
    clipping are of true gradients, under every stage and with offloading. DeepSpeed is told nothing
    of float16: its own scalers clip scaled gradients under stage 1 and 2.

    A step with a gradient that is not finite anywhere changes no weight, on no process, and halves
    the scale; 2,000 steps without one double it. The learning rate goes on: it is a function of the
    step.

    Args:
        engine: The DeepSpeed engine.
        optimizer: The optimizer inside it.
        ranks: This process.
        enabled: Whether to compute in float16; if not, everything here does nothing.

    Attributes:
        value: The factor on the loss.
        skipped: Steps skipped so far.
        overflowed: Whether the step settled last is skipped.
    """

    def __init__(
        self,
        engine: Any,  # noqa: ANN401 - DeepSpeed ships no types
        optimizer: torch.optim.Optimizer,
        ranks: Ranks,
        *,
        enabled: bool,
    ) -> None:
        self.engine, self.ranks, self.enabled = engine, ranks, enabled
        self.value = _FIRST if enabled else 1.0
        self.skipped = 0
        self.overflowed = False
        self._since = 0
        self._largest = torch.zeros((), device=ranks.device)
        if not enabled:
            return
        # Inside the module: an autocast around the engine is switched off by DeepSpeed.
        computes = torch.autocast(ranks.device.type, dtype=torch.float16)
        engine.module.forward = computes(engine.module.forward)
        for parameter in engine.module.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._unscaled)
        optimizer.register_step_pre_hook(self._drop)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to go backward from."""
        return loss * self.value if self.enabled else loss

    def settle(self, step: int) -> None:
        """Decide whether a step counts, once its gradients are there; collective.

        Raises:
            LossScaleError: It does not, and the scale is at its smallest.
        """
        if not self.enabled:
            return
        bad = (~self._largest.isfinite()).float()
        if self.ranks.world > 1:
            torch.distributed.all_reduce(bad, op=torch.distributed.ReduceOp.MAX)
        self._largest.zero_()
        self.overflowed = bool(bad.item())
        self._since = 0 if self.overflowed else self._since + 1
        if self.overflowed:
            self.skipped += 1
            if self.value <= _SMALLEST:
                raise LossScaleError(step, self.skipped)
            self.value /= 2
        elif self._since == _GROW_AFTER:
            self.value, self._since = self.value * 2, 0

    def skips(self) -> bool:
        """Return whether the step just taken was none; keeps the learning rate's schedule going."""
        if self.overflowed and not self.engine.was_step_applied():
            # DeepSpeed, above stage 0, has seen for itself and left the schedule where it was.
            self.engine.lr_scheduler.step()
        return self.overflowed

    def scalars(self) -> dict[str, float]:
        """Return what is logged: nothing where nothing is scaled."""
        if not self.enabled:
            return {}
        return {"loss_scale": self.value, "skipped_steps": float(self.skipped)}

    def state_dict(self) -> dict[str, float]:
        """Return what a resumed run needs."""
        return {"value": self.value, "since": self._since, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from :meth:`state_dict`; an empty one is of a run that never scaled."""
        if not state:
            return
        self.value = float(state["value"])
        self._since, self.skipped = int(state["since"]), int(state["skipped"])

    def _unscaled(self, gradient: Tensor) -> Tensor:
        # Not in place: autograd may pass the same tensor on to other branches.
        true = gradient / self.value
        if true.numel():
            largest = torch.linalg.vector_norm(true, float("inf"))
            # maximum keeps what is not a number.
            torch.maximum(self._largest, largest.to(self._largest), out=self._largest)
        return true

    def _drop(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:  # noqa: ANN401 - torch's hook
        """Take an overflowed step's gradients away: AdamW passes over weights without one."""
        if not self.overflowed:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
