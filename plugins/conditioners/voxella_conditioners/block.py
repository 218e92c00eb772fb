"""One block of the connector: attention and an MLP, each behind an adaptive norm."""

from __future__ import annotations

from torch import Tensor, nn

from voxella_conditioners.adaptive_norm import AdaptiveNorm
from voxella_conditioners.attention import QueryAttention

__all__ = ["PerceiverBlock", "SquaredReluMlp"]


class SquaredReluMlp(nn.Module):
    """Linear to four times the width, squared ReLU (So et al. 2021, Primer), linear back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, T, C)`` to ``(B, T, C)``."""
        mapped: Tensor = self.fc2(nn.functional.relu(self.fc1(x)).square())
        return mapped


class PerceiverBlock(nn.Module):
    """A block of ELLA's timestep-aware connector (arXiv 2403.05135, section 3.2).

    Args:
        width: Width C of queries and text.
        heads: Attention heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query_norm = AdaptiveNorm(width)
        self.text_norm = AdaptiveNorm(width)
        self.attention = QueryAttention(width, heads)
        self.mlp_norm = AdaptiveNorm(width)
        self.mlp = SquaredReluMlp(width)

    def forward(
        self, queries: Tensor, normed_text: Tensor, condition: Tensor, visible: Tensor | None
    ) -> Tensor:
        """Refine the queries.

        Args:
            queries: ``(B, Q, C)``.
            normed_text: ``(B, L, C)`` after ``plain_norm``, which all blocks share.
            condition: ``(B, C)``, SiLU of the time embedding.
            visible: ``(B, 1, 1, Q + L)`` bool, or None when nothing is hidden.

        Returns:
            ``(B, Q, C)``.
        """
        normed = self.query_norm(queries, condition)
        text = self.text_norm.modulate(normed_text, condition)
        queries = queries + self.attention(normed, text, visible)
        refined: Tensor = queries + self.mlp(self.mlp_norm(queries, condition))
        return refined
