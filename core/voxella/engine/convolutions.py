"""Convolutions that can be trusted in bfloat16 on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from voxella.engine.processor.soundness import Fault, convolution_fault, reaches_over

__all__ = ["sound_convolutions"]

_CONVOLUTIONS = (
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)
_ARGUMENTS = {
    "conv": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv_transpose": (
        *("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"),
    ),
}


@contextmanager
def sound_convolutions(
    device: torch.device, *, reduced: bool, fault: Fault | None = None
) -> Iterator[None]:
    """Compute in float32 those convolutions whose bfloat16 gradients are wrong on the CPU.

    oneDNN's weight gradients of bfloat16 convolutions are wrong where the kernel reaches over a
    whole axis, such as 3 x 3 x 3 over 2 x 2 x 2 voxels: memory is read that nobody wrote, and some
    shapes write where they must not, which ends the process (torch 2.13.0, oneDNN 3.12, AVX-512).
    Such grids are small, so that float32 costs little there. (Float32 failed in the same way for 3
    of 1,100 random shapes, all with kernels of 7 and a stride of 2 over 4 to 7 voxels; no model
    here has such.) All other convolutions, matrix products and other devices are left as they are.
    On a torch that is mended nothing is done.

    The functions of ``torch.nn.functional`` are replaced for a while, which networks' layers call:
    a layer need not be known, and what gradient checkpointing computes again in the backward pass
    is caught as well, as by a mode of torch's it is not.

    Args:
        device: Where the model computes.
        reduced: Whether it computes in less than float32.
        fault: Which gradients are wrong; None: what a trial finds on this machine.
    """
    if device.type != "cpu" or not reduced:
        yield
        return
    fault = convolution_fault() if fault is None else fault
    if fault == "none":
        yield
        return
    genuine = {name: getattr(functional, name) for name in _CONVOLUTIONS}
    for name, function in genuine.items():
        setattr(functional, name, _in_float32(name, function, everywhere=fault == "any"))
    try:
        yield
    finally:
        for name, function in genuine.items():
            setattr(functional, name, function)


def _in_float32(
    name: str, function: Callable[..., Tensor], *, everywhere: bool
) -> Callable[..., Tensor]:
    transposed, axes = name.startswith("conv_transpose"), int(name[-2])
    names = _ARGUMENTS["conv_transpose" if transposed else "conv"]

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - torch's
        autocast = torch.is_autocast_enabled("cpu")
        asked = dict(zip(names, args, strict=False)) | kwargs
        low = torch.get_autocast_dtype("cpu") if autocast else asked["input"].dtype
        trusted = low not in (torch.bfloat16, torch.float16)
        if trusted or not (everywhere or _reaches_over(asked, axes, transposed=transposed)):
            return function(*args, **kwargs)
        exact = [_float32(value) for value in args]
        named = {name: _float32(value) for name, value in kwargs.items()}
        with torch.autocast("cpu", enabled=False):
            return function(*exact, **named).to(low)

    return guarded


def _reaches_over(asked: dict[str, Any], axes: int, *, transposed: bool) -> bool:
    extents = tuple(asked["input"].shape[-axes:])
    kernel = tuple(asked["weight"].shape[-axes:])
    stride, dilation = (_each(asked.get(key, 1), axes) for key in ("stride", "dilation"))
    padding = asked.get("padding", 0)
    if isinstance(padding, str):
        # "same" pads each axis by half of the reach; "valid" by nothing.
        pads = zip(kernel, dilation, strict=True)
        padding = tuple((k - 1) * d // 2 if padding == "same" else 0 for k, d in pads)
    padding = _each(padding, axes)
    if transposed:
        # Its weight gradient is that of the convolution from its output to its input.
        more = _each(asked.get("output_padding", 0), axes)
        extents = tuple(
            (extents[i] - 1) * stride[i]
            - 2 * padding[i]
            + dilation[i] * (kernel[i] - 1)
            + more[i]
            + 1
            for i in range(axes)
        )
    return reaches_over(extents, kernel, stride, padding, dilation)


def _each(value: Any, axes: int) -> tuple[int, ...]:  # noqa: ANN401 - an argument of torch's
    if isinstance(value, int):
        return (value,) * axes
    found = tuple(value)
    return cast("tuple[int, ...]", found * axes if len(found) == 1 else found)


def _float32(value: Any) -> Any:  # noqa: ANN401 - an argument of torch's
    return value.float() if isinstance(value, Tensor) else value
