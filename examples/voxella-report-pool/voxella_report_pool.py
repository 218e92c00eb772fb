"""Conditioner ``report_pool``: the mean of a report's token features as one vector.

The backbone adds the vector to its timestep embedding and needs no cross-attention, so this is the
cheapest way to let a report speak, and a baseline for everything that reads its words one by one.

A larger plugin keeps its networks in a second module and imports it inside the builder, so that
validating a recipe does not wait for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.plugins import hookimpl

__all__ = ["ReportPool", "report_pool", "voxella_factory"]


class ReportPool(nn.Module):
    """Mean over the real tokens, layer norm, two linear layers.

    Args:
        text_dim: Width F of the token features.
        width: Width K of the vector ``report``.
    """

    def __init__(self, text_dim: int, width: int) -> None:
        super().__init__()
        self.context_dim: int | None = None
        self.vector_sizes: Mapping[str, int] = {"report": width}
        self.needs = frozenset({"text"})
        self.project = nn.Sequential(
            nn.LayerNorm(text_dim), nn.Linear(text_dim, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor,
        text_mask: Tensor | None,
    ) -> Conditioning:
        """Map ``(B, L, F)`` to the vector ``report`` ``(B, K)``; the timestep goes unread.

        ``needs`` names text, so the engine calls it with the features and their mask.
        """
        if text_mask is None:
            text_mask = torch.ones(text_features.shape[:2], device=text_features.device)
        weights = text_mask[..., None].float()  # (B, L, 1)
        # Features come as the cache holds them, in bfloat16; sums want float32. Padding is set to
        # zero and not merely weighted: 0 x inf would be nan.
        real = text_features.float().masked_fill(weights == 0, 0.0)
        pooled = real.sum(1) / weights.sum(1)  # (B, F); a text has at least one token
        return Conditioning(vectors={"report": self.project(pooled)})


def report_pool(*, text_dim: int, width: int = 64) -> ReportPool:
    """Build the conditioner; the engine supplies ``text_dim``, a recipe may set ``width``."""
    return ReportPool(text_dim, width)


@hookimpl
def voxella_factory(name: str) -> Callable[..., ReportPool] | None:
    """Return the builder behind ``name``, or None when it is not ours."""
    return report_pool if name == "report_pool" else None
