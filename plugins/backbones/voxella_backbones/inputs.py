"""What a denoiser is told, checked against what it was built for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning

__all__ = ["checked_context", "checked_vectors", "vector_mlp"]


def vector_mlp(width_in: int, width_out: int) -> nn.Sequential:
    """Return the two-layer SiLU network that lifts a vector to the width of the time embedding."""
    return nn.Sequential(nn.Linear(width_in, width_out), nn.SiLU(), nn.Linear(width_out, width_out))


def checked_vectors(
    conditioning: Conditioning, widths: Mapping[str, int], batch: int, dtype: torch.dtype
) -> list[Tensor]:
    """Return the vectors in the order of ``widths``, whatever order they were given in.

    Raises:
        ValueError: If a vector is missing, unknown, or not ``(batch, width)``.
    """
    given = conditioning.vectors
    problems = [f"missing vector {name!r}" for name in widths if name not in given]
    problems += [f"unknown vector {name!r}" for name in given if name not in widths]
    problems += [
        f"vector {name!r} has shape {tuple(given[name].shape)}, expected {(batch, width)}"
        for name, width in widths.items()
        if name in given and tuple(given[name].shape) != (batch, width)
    ]
    if problems:
        raise ValueError(f"{'; '.join(problems)} (the network was built for {dict(widths)})")
    return [given[name].to(dtype) for name in widths]


def checked_context(
    conditioning: Conditioning, width: int | None, batch: int, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Return the context ``(B, T, C)`` and its mask ``(B, T)`` bool, or None for each.

    Raises:
        ValueError: If a context is missing, not expected, or of another shape.
    """
    context, mask = conditioning.context, conditioning.context_mask
    if width is None:
        if context is not None:
            raise ValueError("a context was given, but the network was built without one")
        return None, None
    if context is None:
        raise ValueError(f"the network was built for a context of width {width}, none was given")
    if context.ndim != 3 or context.shape[0] != batch or context.shape[2] != width:
        raise ValueError(
            f"context has shape {tuple(context.shape)}, expected ({batch}, T, {width})"
        )
    if mask is not None and mask.shape != context.shape[:2]:
        raise ValueError(
            f"context_mask has shape {tuple(mask.shape)}, expected {tuple(context.shape[:2])}"
        )
    return context.to(dtype), None if mask is None else mask.bool()
