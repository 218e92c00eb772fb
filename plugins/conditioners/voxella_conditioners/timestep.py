"""Timesteps as vectors: the time embedding that every block of the connector is modulated by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["TimestepEmbedding", "sinusoidal"]


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
