"""The average that training keeps, and beside it power-function averages, written as it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from voxella.engine.ema import Ema, Masters
from voxella.engine.runtime import gather_state
from voxella.ldm.snapshots.profiles import Profile, exponent

__all__ = ["TrackedEma"]

Write = Callable[[Profile, Mapping[str, Tensor]], object]


class TrackedEma(Ema):
    """An :class:`Ema` with power-function averages beside it, each as large as the weights.

    Args:
        module: The module that DeepSpeed trains.
        masters: Where its float32 weights are.
        decay: Of the average that is exported.
        widths: Relative widths of the others.
        every: Steps between snapshots of these.
        keep: Whether this process writes.
        write: Takes the whole state of one of them, on the CPU.
    """

    def __init__(
        self,
        module: nn.Module,
        masters: Masters,
        decay: float,
        *,
        widths: Sequence[float],
        every: int,
        keep: bool,
        write: Write,
    ) -> None:
        super().__init__(module, masters, decay)
        self._module = module
        self._exponents = {width: exponent(width) for width in widths}
        self._every, self._keep, self._write_one = every, keep, write
        self._profiles = {width: [part.clone() for part in self.shadow] for width in widths}

    @torch.no_grad()
    def _towards(self, now: list[Tensor]) -> None:
        super()._towards(now)
        for width, gamma in self._exponents.items():
            # The first step takes all of the weights: of the start nothing is left (equation 127).
            past = (1 - 1 / self.steps) ** (gamma + 1)
            torch._foreach_lerp_(self._profiles[width], now, 1.0 - past)
        if self.steps % self._every == 0:
            self._snapshot()

    def _snapshot(self) -> None:
        """Write all of them; collective, as every process holds a part under ZeRO 3."""
        exported = self.shadow
        try:
            for width, parts in self._profiles.items():
                self.shadow = parts
                state = gather_state(self._module, keep=self._keep, whole=self.whole)
                if self._keep:
                    self._write_one(Profile(self.steps, width), state)
        finally:
            self.shadow = exported

    def state_dict(self) -> dict[str, object]:
        """Return what a resumed run needs; under ZeRO 3 it is this process's share."""
        profiles = {
            f"{width:g}": dict(zip(self._names, parts, strict=True))
            for width, parts in self._profiles.items()
        }
        return {**super().state_dict(), "profiles": profiles}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from :meth:`state_dict`."""
        super().load_state_dict(state)
        profiles: Any = state["profiles"]
        for width, parts in self._profiles.items():
            for name, mine in zip(self._names, parts, strict=True):
                mine.copy_(profiles[f"{width:g}"][name])
