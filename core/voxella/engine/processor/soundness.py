"""Which bfloat16 convolutions of this torch and processor give wrong gradients: asked by trial."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Fault", "convolution_fault", "reaches_over"]

Fault = Literal["none", "reaching", "any"]

_TRIALS = 6
# Rounding a sum to bfloat16 was measured at 0.002 of it.
_WRONG = 0.02
# (channels, extents, stride): kernels of 3 that reach over a whole axis, and others. Only such as
# were never seen to write where they must not; some of the first kind end a process.
_REACHING = ((32, (2, 2, 2), 1), (16, (2, 4, 8), 1), (32, (1, 1, 1), 2))
_OTHERS = ((32, (4, 4, 4), 1), (8, (8, 8, 4), 1), (16, (8, 6, 5), 2), (64, (3, 5, 3), 1))


@cache
def convolution_fault() -> Fault:
    """Return whether weight gradients are wrong: of no shape, of those that reach over, of any.

    A process asks once; it takes about 20 ms. A torch that is mended answers ``none``.
    """
    if _found(_OTHERS):
        return "any"
    return "reaching" if _found(_REACHING) else "none"


def reaches_over(
    extents: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> bool:
    """Return whether a kernel reaches over a whole axis, so that its gradient may be wrong.

    Of 5,000 random shapes those that failed were of this kind, and about half of this kind failed
    (torch 2.13.0, oneDNN 3.12, AVX512-BF16).

    Args:
        extents: Of the larger side: the input of a convolution, the output of a transposed one.
        kernel: Its extents.
        stride: Along each axis.
        padding: Along each axis.
        dilation: Along each axis.
    """
    for size, taps, step, pad, gap in zip(extents, kernel, stride, padding, dilation, strict=True):
        reach = gap * (taps - 1) + 1
        # With a stride a tap of the kernel may meet the padding alone.
        if size < reach + (step if step > 1 and pad > 0 else 0):
            return True
    return False


def _found(shapes: tuple[tuple[int, tuple[int, ...], int], ...]) -> bool:
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        return any(_is_wrong(*shape) for shape in shapes)


def _is_wrong(channels: int, extents: tuple[int, ...], stride: int) -> bool:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, *extents, generator=generator).bfloat16()
    weight = torch.randn(channels, channels, 3, 3, 3, generator=generator).bfloat16()
    exact = _weight_gradient(x.float(), weight.float(), stride)
    for trial in range(_TRIALS):
        _leave_behind(float("nan") if trial % 2 else 1e30)
        error = (_weight_gradient(x, weight, stride).float() - exact).norm() / exact.norm()
        if not float(error) < _WRONG:  # also what is not a number
            return True
    return False


def _weight_gradient(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    weight = weight.detach().requires_grad_()
    # Not through the name that a guard may have replaced.
    out = torch.conv3d(x, weight, None, stride, 1)
    asked = torch.arange(out.numel()).remainder(7).sub(3).reshape(out.shape)
    (gradient,) = torch.autograd.grad(out, weight, asked.to(out.dtype))
    return gradient


def _leave_behind(value: float) -> None:
    """Fill memory and give it back: what is read unwritten is then seen."""
    kept = [torch.full((2**power,), value) for power in (8, 12, 16, 20)]
    del kept
