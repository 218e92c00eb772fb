"""Exponential moving average of the weights, under every ZeRO stage.

Each process averages what it holds: whole parameters under stages 0 to 2, its own partition under
stage 3 (DeepSpeed keeps it in ``ds_tensor``). Nothing is gathered while training.

Float32 values of the weights, where DeepSpeed trains a copy of them in less.

Under the ``bf16:`` and ``fp16:`` blocks the module holds rounded weights and DeepSpeed keeps the
float32 originals: whole under stage 0, spread over the processes above it. An average over rounded
weights would come to rest beside the trained ones, by up to one part in 256.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from voxella.engine.runtime import collective_device

__all__ = ["Ema", "Masters", "full_tensor", "local_shard"]


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
        self._towards([self._masters.part(p) for p in self._parameters])

    def _towards(self, now: list[Tensor]) -> None:
        """Average the current weights in."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.shadow, now, 1.0 - decay)

    def whole(self, parameter: nn.Parameter) -> Tensor:
        """Return all of a parameter's average, unrounded; collective under ZeRO 3.

        A parameter that is not trained has no average: it is its own.
        """
        index = self._index.get(id(parameter))
        if index is None:
            return self._masters.whole(parameter)
        shadow = self.shadow[index]
        return full_tensor(parameter, shadow) if hasattr(parameter, "ds_id") else shadow

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average in the place of the weights for a while (panels, validation)."""
        kept = [local_shard(p).clone() for p in self._parameters]
        self._write(self.shadow)
        try:
            yield
        finally:
            self._write(kept)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            local_shard(parameter).copy_(value)

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


def local_shard(parameter: nn.Parameter) -> Tensor:
    """Return what this process holds of a parameter: all of it, or its ZeRO-3 partition."""
    part: Tensor = getattr(parameter, "ds_tensor", parameter)
    return part.data


class Masters:
    """Finds the float32 values behind a module's parameters.

    Args:
        engine: The DeepSpeed engine.
    """

    def __init__(self, engine: Any) -> None:  # noqa: ANN401 - DeepSpeed ships no types
        optimizer = engine.optimizer
        groups = zip(
            getattr(optimizer, "fp16_groups", None) or [],
            getattr(optimizer, "fp32_groups", None) or [],
            strict=False,
        )
        # Stage 0 keeps lists side by side; above it each parameter knows where its original is.
        self._whole: dict[int, Tensor] = {
            id(low): high
            for lows, highs in groups
            for low, high in zip(lows, highs, strict=True)
            if low.shape == high.shape
        }

    def part(self, parameter: nn.Parameter) -> Tensor:
        """Return float32 values of what :func:`local_shard` returns; collective at stages 1 and 2.

        Falls back on the held values, in float32, where DeepSpeed keeps no originals.
        """
        mine = local_shard(parameter)
        if mine.dtype is torch.float32:
            return mine
        if hasattr(parameter, "ds_id"):
            from deepspeed.utils import safe_get_local_fp32_param

            found = safe_get_local_fp32_param(parameter)
            # DeepSpeed leaves out the padding of the last process's partition.
            return mine.float() if found is None else _padded(found, mine)
        whole = self._original(parameter)
        return mine.float() if whole is None else whole

    def whole(self, parameter: nn.Parameter) -> Tensor:
        """Return all of a parameter's float32 values, on every process; collective."""
        if hasattr(parameter, "ds_id"):
            return full_tensor(parameter, self.part(parameter))
        return self.part(parameter)

    def _original(self, parameter: nn.Parameter) -> Tensor | None:
        if id(parameter) in self._whole:
            return self._whole[id(parameter)].data
        if not hasattr(parameter, "_hp_mapping"):
            return None
        from deepspeed.utils import safe_get_full_fp32_param

        found: Tensor | None = safe_get_full_fp32_param(parameter)
        return found


def full_tensor(parameter: nn.Parameter, part: Tensor) -> Tensor:
    """Return the whole of a ZeRO-3 parameter from every process's partition; collective.

    The partition may lie on the host, offloaded; the whole lies where the collective ran.
    """
    parts = [part]
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        part = part.to(collective_device()).contiguous()
        parts = [torch.empty_like(part) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, part)
    shape: torch.Size = parameter.ds_shape  # type: ignore[attr-defined]  # set by DeepSpeed
    return torch.cat([piece.flatten() for piece in parts])[: shape.numel()].view(shape)


def _padded(found: Tensor, mine: Tensor) -> Tensor:
    flat = found.flatten()
    missing = mine.numel() - flat.numel()
    return nn.functional.pad(flat, (0, missing)) if missing else flat
