"""What is alive during one training step or one denoising step, found without memory for it.

The step runs on tensors that have a shape and no content (torch's fake tensors), forward and
backward, mixed precision and checkpointing included; every storage is counted from its first use to
its end. On the CPU the peak is that of torch's own allocator, to some MiB; kernels' workspaces are
not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from voxella.autoencoder.tiling.memory import LiveBytes
from voxella.engine.precision import autocast_dtype
from voxella.forecast.flops import batch_of
from voxella.ldm.build import build_model
from voxella.recipe.model import Recipe

__all__ = ["StepMemory", "Tracing", "training_peaks"]

_T = TypeVar("_T")


_Line = tuple[int, int]


@dataclass(frozen=True)
class StepMemory:
    """Bytes at the peak of a training step beside the weights, a line over the micro batch each.

    Attributes:
        alone: Fixed part and part of a case, of activations without the gradients of weights.
        with_gradients: The same, gradients that are there by then included.
    """

    alone: _Line
    with_gradients: _Line


@dataclass(frozen=True)
class Tracing:
    """A recipe's model, run without content.

    Attributes:
        recipe: The experiment.
    """

    recipe: Recipe

    def training(self, *, checkpointing: bool | None = None) -> StepMemory | None:
        """Find what a training step takes; None where it cannot be traced.

        Args:
            checkpointing: Whether activations are computed again; None: as the recipe says.
        """
        if checkpointing is not None:
            train = self.recipe.train.model_copy(update={"gradient_checkpointing": checkpointing})
            return Tracing(self.recipe.model_copy(update={"train": train})).training()

        def look(model: nn.Module, loss: Callable[[int], torch.Tensor]) -> StepMemory:
            model.train()
            one, two = (training_peaks(model, partial(loss, cases)) for cases in (1, 2))
            alone, joint = (_line(a, b) for a, b in zip(one, two, strict=True))
            return StepMemory(alone, joint)

        return self._traced(look)

    def sampling(self) -> _Line | None:
        """Find what a denoising step takes beside the weights: fixed, and of one case; or None."""

        def look(model: nn.Module, loss: Callable[[int], torch.Tensor]) -> _Line:
            model.eval()
            with torch.no_grad():
                one, two = (
                    training_peaks(model, partial(loss, n), backward=False)[0] for n in (1, 2)
                )
            return _line(one, two)

        return self._traced(look)

    def _traced(self, look: Callable[[nn.Module, Callable[[int], torch.Tensor]], _T]) -> _T | None:
        """Build the model without content and look at it, in the recipe's precision."""
        own = self.recipe
        whole = bool((own.deepspeed.get("bf16") or {}).get("enabled"))
        reduced = autocast_dtype(own.deepspeed) is not None and not whole

        def loss(cases: int) -> torch.Tensor:
            batch = batch_of(own.latent, own.text, len(own.data.classes), cases)
            # On the CPU, so that attention is the fused one; bfloat16, for float16 is as wide.
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                return cast("torch.Tensor", model(batch)["total"])

        try:
            with torch.device("meta"):
                model = build_model(own)
            if whole:
                model.to(torch.bfloat16)
            with FakeTensorMode(allow_non_fake_inputs=True):
                model.to_empty(device="cpu")
                return look(model, loss)
        except (NotImplementedError, RuntimeError):
            return None


def training_peaks(
    model: nn.Module, loss: Callable[[], torch.Tensor], *, backward: bool = True
) -> tuple[int, int]:
    """Return the peak bytes beside the weights: without gradients of weights, and with them.

    Args:
        model: Its parameters lie where the step runs; their gradients are taken away again.
        loss: A forward pass.
        backward: Whether the loss is followed back.
    """
    live = _Split(model)
    hooks = [
        p.register_post_accumulate_grad_hook(live.keep)  # type: ignore[no-untyped-call]
        for p in model.parameters()
        if backward
    ]
    try:
        with live:
            value = loss()
            if backward:
                torch.autograd.backward(value)
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
    return live.peak_alone, live.peak


class _Split(LiveBytes):  # type: ignore[no-untyped-call]  # torch has no types here
    """Counts live bytes, with and without the gradients that lie on parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.ignore([*model.parameters(), *model.buffers()])
        self.peak_alone = 0
        self._gradients = 0

    def keep(self, parameter: torch.Tensor) -> None:
        """Note that a gradient has come to lie on a parameter."""
        gradient = parameter.grad
        assert gradient is not None, "torch calls this once it is there"
        self._gradients += gradient.untyped_storage().nbytes()

    def changed(self) -> None:
        """Follow the peak without gradients."""
        self.peak_alone = max(self.peak_alone, self.now - self._gradients)


def _line(one: int, two: int) -> _Line:
    """Return fixed part and slope of what one and two cases take."""
    slope = max(0, two - one)
    return max(0, one - slope), slope
