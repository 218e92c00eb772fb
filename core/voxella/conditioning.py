"""What a conditioner is called with, and what it hands the backbone."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["LABEL", "SPACING", "TEXT", "Conditioning", "arguments", "completed", "unread"]

TEXT, LABEL, SPACING = "text", "label", "spacing"
# Conditioners from before `needs` decided the call may declare these without reading them.
_ONCE_GIVEN = ("text_features", "text_mask", LABEL)


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


def arguments(
    needs: Collection[str], given: Mapping[str, Tensor], text_mask: Tensor | None = None
) -> dict[str, Tensor | None]:
    """Return what a conditioner is called with beside ``timesteps``: what it needs, by name.

    Args:
        needs: The conditioner's.
        given: At least these, by name; ``text`` is the token features.
        text_mask: Of the token features.

    Raises:
        KeyError: A name is not given.
    """
    called: dict[str, Tensor | None] = {name: given[name] for name in needs if name != TEXT}
    if TEXT in needs:
        called |= {"text_features": given[TEXT], "text_mask": text_mask}
    return called


def completed(
    widths: Mapping[str, int], given: Mapping[str, Tensor], count: int, device: torch.device
) -> dict[str, Tensor]:
    """Return every condition of a model; zeros, "not known", stand for what is not given.

    Args:
        widths: ``{name: width}`` of the model's conditions.
        given: ``{name: (B, width)}`` of some of them.
        count: B.
        device: Where the zeros are made.

    Raises:
        ValueError: The model has no condition of that name, or it is of another shape.
    """
    for name, tensor in given.items():
        if name not in widths:
            raise ValueError(f"no condition {name} here; there is: {', '.join(widths) or 'none'}")
        if tuple(tensor.shape) != (count, widths[name]):
            wanted = (count, widths[name])
            raise ValueError(f"condition {name}: shape {tuple(tensor.shape)}, expected: {wanted}")
    zeros = {name: torch.zeros(count, width, device=device) for name, width in widths.items()}
    return {**zeros, **given}


def unread(conditioner: Callable[..., Any], needs: Collection[str]) -> dict[str, None]:
    """Return, as None, the arguments that a conditioner asks for although it does not need them."""
    forward = getattr(conditioner, "forward", conditioner)
    asked = inspect.signature(forward).parameters
    needed = {*needs, *(("text_features", "text_mask") if TEXT in needs else ())}
    return {
        name: None
        for name in _ONCE_GIVEN
        if name not in needed and name in asked and asked[name].default is inspect.Parameter.empty
    }
