"""Layer norm whose shift and scale come from the timestep."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["AdaptiveNorm", "plain_norm"]


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
