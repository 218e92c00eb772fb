"""Classifier-free guidance."""

from __future__ import annotations

from torch import Tensor

__all__ = ["combine"]


def combine(conditional: Tensor, null: Tensor, scale: float) -> Tensor:
    """Return ``null + scale (conditional - null)`` (Ho and Salimans 2022, equation 6).

    The paper's weight ``w`` is ``scale - 1``: here 1 means no guidance, and returns ``conditional``
    itself so that switching guidance off changes no bit. The formula is linear and all predictions
    are linear in one another at a given x_t, so it means the same for epsilon, v, x0 and flow.

    Args:
        conditional: ``(B, C, *spatial)``, the network's output under the full conditioning.
        null: The same under the null conditioning.
        scale: 0 is unconditional, 1 conditional, above 1 exaggerates the condition.
    """
    if scale == 1.0:
        return conditional
    return null + scale * (conditional - null)
