"""The batch that conditioners are tried on, and what can be seen of their answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from voxella.conditioning import SPACING, Conditioning
from voxella.testing.checks import Outputs

__all__ = [
    "AXES",
    "LENGTHS",
    "NUMBER",
    "TEXT_DIM",
    "batch_of",
    "check_shapes",
    "known_but_of_the_last",
    "needs_of",
    "one_case",
    "rows",
    "visible",
]

LENGTHS = [6, 1, 4]  # true tokens of the three cases
TEXT_DIM = 12
AXES = 3
NUMBER = 2  # what a recipe makes of a number: its place in the range, and whether it is known


def batch_of(text_dim: int = TEXT_DIM, num_classes: int = 2) -> dict[str, Tensor]:
    """Return three cases with texts of different length, classes and timesteps."""
    generator = torch.Generator().manual_seed(3)
    shape = (len(LENGTHS), max(LENGTHS))
    return {
        "timesteps": torch.tensor([1, 500, 999]),
        "text": torch.randn(*shape, text_dim, generator=generator),
        "text_mask": torch.arange(shape[1])[None] < torch.tensor(LENGTHS)[:, None],
        SPACING: torch.rand(len(LENGTHS), AXES, generator=generator) + 0.5,
        "label": one_hot(torch.arange(shape[0]) % num_classes, num_classes).float(),
    }


def known_but_of_the_last(width: int) -> Tensor:
    """Return a condition of three cases as a recipe makes it: two values, and one missing."""
    if width == NUMBER:
        return torch.tensor([[0.4, 1.0], [-0.7, 1.0], [0.0, 0.0]])
    values = one_hot(torch.arange(len(LENGTHS)) % width, width).float()
    return torch.cat([values[:-1], torch.zeros(1, width)])


def needs_of(module: nn.Module) -> frozenset[str]:
    """Return the names of what a conditioner reads."""
    needs: frozenset[str] = module.needs  # type: ignore[assignment] # nn.Module hides attributes
    return needs


def rows(tensor: Tensor, index: int) -> Tensor:
    """Return one case of a batch, as a batch of one."""
    return tensor[index : index + 1]


def one_case(found: Conditioning, index: int) -> Conditioning:
    """Return one case of a batch's conditioning, as a batch of one."""

    def row(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else rows(tensor, index)

    return Conditioning(
        context=row(found.context),
        context_mask=row(found.context_mask),
        vectors={name: rows(vector, index) for name, vector in found.vectors.items()},
        class_logits=row(found.class_logits),
    )


def visible(found: Conditioning) -> Outputs:
    """Return what a backbone or a loss can see: real context tokens, vectors, logits."""
    seen = {f"vectors[{name}]": vector for name, vector in found.vectors.items()}
    if found.context is not None:
        mask = found.context_mask
        seen["context"] = found.context.flatten(0, 1) if mask is None else found.context[mask]
    if found.class_logits is not None:
        seen["class_logits"] = found.class_logits
    return seen


def check_shapes(module: nn.Module, found: Conditioning, num_classes: int) -> None:
    """Refuse a Conditioning that its conditioner's attributes do not announce."""
    batch = len(LENGTHS)
    width: int | None = module.context_dim  # type: ignore[assignment] # see run
    assert (found.context is None) == (width is None), "context and context_dim disagree"
    if found.context is not None:
        shape = tuple(found.context.shape)
        assert shape == (batch, shape[1], width), (
            f"context has shape {shape}, not (batch, tokens, context_dim={width})"
        )
        mask = found.context_mask
        assert mask is None or (mask.dtype == torch.bool and mask.shape == shape[:2]), (
            "context_mask has to be bool of shape (batch, tokens)"
        )
    sizes = {name: tuple(vector.shape) for name, vector in found.vectors.items()}
    announced: Mapping[str, int] = module.vector_sizes  # type: ignore[assignment] # see run
    told = {name: (batch, size) for name, size in announced.items()}
    assert sizes == told, f"vectors have shapes {sizes}; vector_sizes announces {told}"
    logits = found.class_logits
    assert logits is None or tuple(logits.shape) == (batch, num_classes), (
        "class_logits has to be (batch, num_classes)"
    )
