"""How much faster this processor computes in bfloat16 than in float32: measured when asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch

__all__ = ["bfloat16_gain", "bfloat16_pays"]

# Where it lies far from 1 on any processor measured: emulated it is 0.4, with AVX512-BF16 1.7 to
# 2, with AMX 3 to 8. So noise does not decide.
_PAYS = 1.15
_ROUNDS = 8


def bfloat16_pays() -> bool:
    """Return whether bfloat16 is faster than float32 on this processor."""
    return bfloat16_gain() > _PAYS


@cache
def bfloat16_gain() -> float:
    """Return float32's time over bfloat16's, of 3D convolutions and matrix products.

    A process asks once, for about 0.1 s: the best of alternating rounds, forward and backward, in
    CPU seconds of this thread, which a busy machine does not lengthen (by the clock a ratio of 19
    was seen under a load of 16).
    """
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        works = {dtype: _work(dtype) for dtype in (torch.float32, torch.bfloat16)}
        best = dict.fromkeys(works, float("inf"))
        for _ in range(_ROUNDS):
            for dtype, work in works.items():
                start = time.thread_time()
                work()
                best[dtype] = min(best[dtype], time.thread_time() - start)
    return best[torch.float32] / best[torch.bfloat16]


def _work(dtype: torch.dtype) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 32, 12, 12, 8, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(32, 32, 3, 3, 3, generator=generator).to(dtype).requires_grad_()
    square = torch.randn(256, 256, generator=generator).to(dtype)

    def work() -> None:
        # Not through torch.nn.functional, whose convolutions may be guarded just now.
        torch.autograd.grad(torch.conv3d(x, weight, None, 1, 1).sum(), (x, weight))
        square @ square

    work()  # what is prepared once
    return work
