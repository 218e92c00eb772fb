"""What a conditioner hands the backbone: the one contract between the two kinds of plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

__all__ = ["Conditioning"]


class _Fields(NamedTuple):
    context: Tensor | None
    context_mask: Tensor | None
    vectors: dict[str, Tensor]
    class_logits: Tensor | None


class Conditioning(_Fields):
    """Everything a backbone is told about a sample beside its timestep.

    A named tuple, because ZeRO 3 looks for the tensors that pass between modules, to hang its
    gathering of weights on them, and it looks into tuples and dictionaries only.

    Attributes:
        context: ``(B, T, C)`` tokens for cross-attention, or None.
        context_mask: ``(B, T)`` bool, True where a token is real; None when all are.
        vectors: ``{name: (B, K)}`` joined to the timestep embedding, in the recipe's order,
            already scaled (the paper multiplies them by 100, see ``recipe.vectors``).
        class_logits: ``(B, num_classes)`` of a text head, or None. Trained, and read when
            sampling; the backbone sees only what the conditioner puts in ``vectors``.
    """

    __slots__ = ()

    def __new__(
        cls,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        vectors: Mapping[str, Tensor] | None = None,
        class_logits: Tensor | None = None,
    ) -> Conditioning:
        """Make a conditioning; what is not given is absent."""
        return super().__new__(cls, context, context_mask, dict(vectors or {}), class_logits)
