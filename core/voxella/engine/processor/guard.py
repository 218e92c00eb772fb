"""What computing in less than float32 needs on this machine, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from voxella.engine.convolutions import sound_convolutions
from voxella.engine.processor.attention import quick_attention

__all__ = ["reduced_precision"]


@contextmanager
def reduced_precision(device: torch.device, *, reduced: bool) -> Iterator[None]:
    """Compute in float32 what the CPU computes wrongly or slowly in bfloat16.

    Args:
        device: Where the model computes.
        reduced: Whether it computes in less than float32; if not, nothing is done.
    """
    with (
        sound_convolutions(device, reduced=reduced),
        quick_attention(device, reduced=reduced),
    ):
        yield
