"""ELLA's timestep-aware semantic connector: text features to context tokens, block by block.

One block of the connector: attention and an MLP, each behind a layer norm whose shift and scale
come from the timestep.

Timesteps as vectors: the time embedding that every block of the connector is modulated by.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from voxella_conditioners.attention import QueryAttention, visible_tokens

__all__ = [
    "AdaptiveNorm",
    "Connector",
    "SquaredReluMlp",
    "TimestepEmbedding",
    "plain_norm",
    "sinusoidal",
]


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


def sinusoidal(timesteps: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    """Return ``[cos(t f), sin(t f)]`` with ``f_i = max_period ** (-i / (channels / 2))``.

    Vaswani et al. 2017, section 3.5, in the form of ELLA: all cosines before all sines, and no
    frequency shift (the last frequency stays above ``1 / max_period``).

    Args:
        timesteps: ``(B,)``, in steps of the schedule; whole or fractional.
        channels: Width of the result; even.
        max_period: In steps, divided by 2 pi: the slowest wave.

    Returns:
        ``(B, channels)`` float32, whatever the dtype of ``timesteps``.
    """
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """Sinusoid, linear, SiLU, linear (ELLA, arXiv 2403.05135: 320 -> 768 -> 768).

    Args:
        width: Width of the embedding.
        channels: Width of the sinusoid.
    """

    def __init__(self, width: int, channels: int = 320) -> None:
        super().__init__()
        self.channels = channels
        self.fc1 = nn.Linear(channels, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, timesteps: Tensor) -> Tensor:
        """Map ``(B,)`` steps to ``(B, width)``."""
        waves = sinusoidal(timesteps, self.channels).to(self.fc1.weight.dtype)
        embedding: Tensor = self.fc2(nn.functional.silu(self.fc1(waves)))
        return embedding


def plain_norm(x: Tensor) -> Tensor:
    """Return ``x`` ``(B, T, C)`` with zero mean and unit variance over C (eps 1e-6, no weights)."""
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6)


class AdaptiveNorm(nn.Module):
    """``plain_norm(x) * (1 + scale) + shift``, with shift and scale linear in the condition.

    The linear starts at zero, so that the module starts as plain layer norm (ELLA's AdaLN).

    Args:
        width: Width C of the tokens, and of the condition.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise and modulate ``x`` ``(B, T, C)`` by ``condition`` ``(B, C)``."""
        return self.modulate(plain_norm(x), condition)

    def modulate(self, normed: Tensor, condition: Tensor) -> Tensor:
        """Modulate what :func:`plain_norm` returned, for callers that share it."""
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)  # (B, 1, C) each
        modulated: Tensor = normed * (1 + scale) + shift
        return modulated
