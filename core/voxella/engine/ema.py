"""Exponential moving average of the weights, under every ZeRO stage.

Each process averages what it holds: whole parameters under stages 0 to 2, its own partition under
stage 3 (DeepSpeed keeps it in ``ds_tensor``). Nothing is gathered while training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from voxella.engine.masters import Masters, held, joined

__all__ = ["Ema"]


class Ema:
    """Averaged weights, in float32, of the float32 weights.

    Args:
        module: The module that DeepSpeed trains (after ``deepspeed.initialize``).
        masters: Where its float32 weights are.
        decay: Weight of the past at each step. Early on it is ``(1 + n) / (10 + n)`` after ``n``
            steps if that is less, so that the start is forgotten (as in most released trainers).
    """

    def __init__(self, module: nn.Module, masters: Masters, decay: float) -> None:
        self.decay = decay
        self._masters = masters
        self.steps = 0
        self._names = [name for name, p in module.named_parameters() if p.requires_grad]
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._index = {id(p): index for index, p in enumerate(self._parameters)}
        self.shadow = [masters.part(p).detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the current weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        now = [self._masters.part(p) for p in self._parameters]
        torch._foreach_lerp_(self.shadow, now, 1.0 - decay)

    def whole(self, parameter: nn.Parameter) -> Tensor:
        """Return all of a parameter's average, unrounded; collective under ZeRO 3.

        A parameter that is not trained has no average: it is its own.
        """
        index = self._index.get(id(parameter))
        if index is None:
            return self._masters.whole(parameter)
        shadow = self.shadow[index]
        return joined(parameter, shadow) if hasattr(parameter, "ds_id") else shadow

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the weights for a while (panels, validation)."""
        kept = [held(p).clone() for p in self._parameters]
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            held(parameter).copy_(value)

    def state_dict(self) -> dict[str, object]:
        """Return what a resumed run needs; under ZeRO 3 it is this process's share."""
        return {"steps": self.steps, "shadow": dict(zip(self._names, self.shadow, strict=True))}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from :meth:`state_dict`."""
        shadow = state["shadow"]
        steps = state["steps"]
        assert isinstance(shadow, dict)
        assert isinstance(steps, int)
        self.steps = steps
        for name, mine in zip(self._names, self.shadow, strict=True):
            mine.copy_(shadow[name])
