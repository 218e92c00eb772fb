"""ELLA's timestep-aware semantic connector: text features to context tokens, block by block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxella_conditioners.adaptive_norm import plain_norm
from voxella_conditioners.attention import visible_tokens
from voxella_conditioners.block import PerceiverBlock
from voxella_conditioners.timestep import TimestepEmbedding

__all__ = ["Connector"]


class Connector(nn.Module):
    """Learned queries that read the text through a stack of blocks (ELLA, arXiv 2403.05135).

    Nothing is kept between calls: keys and values depend on the timestep, and projecting the text
    anew is a small share of a denoising step.

    Args:
        text_dim: Width F of the text features.
        width: Width C of the context tokens.
        queries: Number Q of context tokens.
        blocks: Number of blocks.
        heads: Attention heads; divides ``width``.
    """

    def __init__(self, text_dim: int, *, width: int, queries: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.text_dim = text_dim
        self.width = width
        self.num_queries = queries  # the parameter's own shape is empty where ZeRO 3 partitions it
        self.time = TimestepEmbedding(width)
        self.queries = nn.Parameter(width**-0.5 * torch.randn(queries, width))
        self.query_time = nn.Linear(width, width)
        self.text_in = nn.Linear(text_dim, width)
        self.blocks = nn.ModuleList(PerceiverBlock(width, heads) for _ in range(blocks))

    def forward(
        self, timesteps: Tensor, text_features: Tensor, text_mask: Tensor | None
    ) -> list[Tensor]:
        """Return the queries after each block; the last are the context.

        Args:
            timesteps: ``(B,)``, in steps of the schedule.
            text_features: ``(B, L, F)``, in any floating dtype (they are stored as bfloat16).
            text_mask: ``(B, L)`` bool, True where a token is real; None when all are.

        Returns:
            One ``(B, Q, C)`` tensor per block.
        """
        condition = nn.functional.silu(self.time(timesteps))  # (B, C)
        queries = self.queries + self.query_time(condition)[:, None]  # (B, Q, C)
        text = plain_norm(self.text_in(text_features.to(self.text_in.weight.dtype)))  # (B, L, C)
        visible = visible_tokens(text_mask, self.num_queries)
        outputs: list[Tensor] = []
        for block in self.blocks:
            queries = block(queries, text, condition, visible)
            outputs.append(queries)
        return outputs
