"""Convolutions that can be trusted in bfloat16 training on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["sound_convolutions"]

_CONVOLUTIONS = (
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)


@contextmanager
def sound_convolutions(device: torch.device, *, reduced: bool) -> Iterator[None]:
    """Compute convolutions in float32 while training on the CPU in bfloat16.

    The weight gradient of oneDNN's bfloat16 3D convolutions over 2 x 2 x 2 voxels was measured to
    read memory that nobody wrote (torch 2.13.0, oneDNN 3.12, AVX-512: another result in 284 of 300
    calls, some not finite). Its float32 convolutions, its matrix products in either dtype, and
    other devices were sound; they are left as they are. Over which extents the fault reaches is
    not known, so that no bfloat16 convolution is trusted.

    The functions of ``torch.nn.functional`` are replaced for a while, which networks' layers call:
    a layer need not be known, and what gradient checkpointing computes again in the backward pass
    is caught as well, as by a mode of torch's it is not.

    Args:
        device: Where the model computes.
        reduced: Whether it computes in less than float32.
    """
    if device.type != "cpu" or not reduced:
        yield
        return
    genuine = {name: getattr(functional, name) for name in _CONVOLUTIONS}
    for name, function in genuine.items():
        setattr(functional, name, _in_float32(function))
    try:
        yield
    finally:
        for name, function in genuine.items():
            setattr(functional, name, function)


def _in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @wraps(function)
    def guarded(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - torch's
        autocast = torch.is_autocast_enabled("cpu")
        low = torch.get_autocast_dtype("cpu") if autocast else input.dtype
        if low not in (torch.bfloat16, torch.float16):
            return function(input, *args, **kwargs)
        exact = [_float32(value) for value in (input, *args)]
        named = {name: _float32(value) for name, value in kwargs.items()}
        with torch.autocast("cpu", enabled=False):
            return function(*exact, **named).to(low)

    return guarded


def _float32(value: Any) -> Any:  # noqa: ANN401 - an argument of torch's
    return value.float() if isinstance(value, Tensor) else value
