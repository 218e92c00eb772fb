"""Learned queries that attend to themselves and to the text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["QueryAttention", "visible_tokens"]


def visible_tokens(text_mask: Tensor | None, queries: int) -> Tensor | None:
    """Return which of [queries ; text] may be attended to.

    Args:
        text_mask: ``(B, L)`` bool, True where a token is real; None when all are.
        queries: Number of queries Q, all visible always, so that no row is ever empty.

    Returns:
        ``(B, 1, 1, Q + L)`` bool, or None when nothing is hidden.
    """
    if text_mask is None:
        return None
    visible = nn.functional.pad(text_mask.bool(), (queries, 0), value=True)
    return visible[:, None, None, :]


class QueryAttention(nn.Module):
    """Multi-head attention of the queries over [queries ; text].

    The maths is ``torch.nn.MultiheadAttention``'s. Queries are projected apart from keys and
    values because only the former are few; attention itself is the fused kernel.

    Args:
        width: Width C of all tokens.
        heads: Number of heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self._initialise(width)

    def forward(self, queries: Tensor, text: Tensor, visible: Tensor | None) -> Tensor:
        """Attend.

        Args:
            queries: ``(B, Q, C)``.
            text: ``(B, L, C)``.
            visible: ``(B, 1, 1, Q + L)`` bool, or None when nothing is hidden.

        Returns:
            ``(B, Q, C)``.
        """
        key, value = self.key_value(torch.cat([queries, text], dim=1)).chunk(2, dim=-1)
        attended = nn.functional.scaled_dot_product_attention(
            self._split(self.query(queries)),
            self._split(key),
            self._split(value),
            attn_mask=visible,
        )
        merged: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # (B, Q, C)
        return merged

    def _split(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = x.reshape(batch, tokens, self.heads, width // self.heads)
        return split.transpose(1, 2)  # (B, heads, T, C / heads)

    def _initialise(self, width: int) -> None:
        # As nn.MultiheadAttention: Glorot over query, key and value taken as one (3C, C) matrix.
        bound = math.sqrt(6 / (3 * width + width))
        for projection in (self.query, self.key_value):
            nn.init.uniform_(projection.weight, -bound, bound)
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(self.out.bias)
