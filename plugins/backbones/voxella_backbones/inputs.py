"""What a denoiser is told, checked against what it was built for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError

__all__ = [
    "ClassTable",
    "checked_context",
    "checked_rows",
    "checked_vectors",
    "mean_token",
    "vector_mlp",
]


def vector_mlp(width_in: int, width_out: int) -> nn.Sequential:
    """Return the two-layer SiLU network that lifts a vector to the width of the time embedding."""
    return nn.Sequential(nn.Linear(width_in, width_out), nn.SiLU(), nn.Linear(width_out, width_out))


def checked_vectors(
    conditioning: Conditioning, widths: Mapping[str, int], batch: int, dtype: torch.dtype
) -> list[Tensor]:
    """Return the vectors in the order of ``widths``, whatever order they were given in.

    Raises:
        ValueError: If a vector is missing, unknown, or not ``(batch, width)``.
    """
    given = conditioning.vectors
    problems = [f"missing vector {name!r}" for name in widths if name not in given]
    problems += [f"unknown vector {name!r}" for name in given if name not in widths]
    problems += [
        f"vector {name!r} has shape {tuple(given[name].shape)}, expected {(batch, width)}"
        for name, width in widths.items()
        if name in given and tuple(given[name].shape) != (batch, width)
    ]
    if problems:
        raise ValueError(f"{'; '.join(problems)} (the network was built for {dict(widths)})")
    return [given[name].to(dtype) for name in widths]


def checked_context(
    conditioning: Conditioning, width: int | None, batch: int, dtype: torch.dtype
) -> tuple[Tensor | None, Tensor | None]:
    """Return the context ``(B, T, C)`` and its mask ``(B, T)`` bool, or None for each.

    Raises:
        ValueError: If a context is missing, not expected, or of another shape.
    """
    context, mask = conditioning.context, conditioning.context_mask
    if width is None:
        if context is not None:
            raise ValueError("a context was given, but the network was built without one")
        return None, None
    if context is None:
        raise ValueError(f"the network was built for a context of width {width}, none was given")
    if context.ndim != 3 or context.shape[0] != batch or context.shape[2] != width:
        raise ValueError(
            f"context has shape {tuple(context.shape)}, expected ({batch}, T, {width})"
        )
    if mask is not None and mask.shape != context.shape[:2]:
        raise ValueError(
            f"context_mask has shape {tuple(mask.shape)}, expected {tuple(context.shape[:2])}"
        )
    return context.to(dtype), None if mask is None else mask.bool()


def mean_token(context: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean ``(B, F)`` of the tokens ``(B, L, F)`` that are real."""
    if mask is None:
        return context.mean(1)
    return (context * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class ClassTable(nn.Embedding):
    """A table of embeddings whose rows are chosen by indicators.

    Args:
        size: Rows of the table.
        width: Channels of a row.
        rows: The row of each indicator.
        unknown: The row where all indicators are 0; None: zeros stand there.
    """

    rows: Tensor

    def __init__(
        self, size: int, width: int, rows: Sequence[int], unknown: int | None = None
    ) -> None:
        super().__init__(size, width)
        self.unknown = unknown
        self.register_buffer("rows", torch.tensor(list(rows), dtype=torch.long), persistent=False)

    def forward(self, indicators: Tensor) -> Tensor:
        """Map ``(B, len(rows))`` to ``(B, width)``."""
        told = indicators.to(self.weight.dtype)
        found: Tensor = told @ self.weight[self.rows]
        if self.unknown is None:
            return found
        return found + (1 - told.sum(dim=1, keepdim=True)) * self.weight[self.unknown]


def checked_rows(
    network: str,
    vectors: Mapping[str, int],
    chosen_by: str | None,
    size: int | None,
    rows: Sequence[int] | None,
    unknown: int | None,
) -> list[int]:
    """Return the table's row of each value of the vector that chooses; none without a table.

    Args:
        network: For messages.
        vectors: ``{name: width}`` of all vectors.
        chosen_by: Name of the vector that chooses.
        size: Rows of the table; None: there is none.
        rows: As the recipe gives them; None: the first ones in order.
        unknown: The row of what is not known, or None.

    Raises:
        UserError: The table, its vector and its rows do not fit one another.
    """
    if size is None and chosen_by is None and rows is None and unknown is None:
        return []
    if size is None or chosen_by is None or chosen_by not in vectors:
        raise UserError(
            f"{network}: class_vector is {chosen_by!r}, num_class_embeds {size}",
            expected=f"both or neither, and class_vector one of the vectors {list(vectors)}",
            remedy="name the condition under vectors too: vectors: [{name: modality, scale: 1}]",
        )
    chosen = list(range(vectors[chosen_by]) if rows is None else rows)
    named = chosen if unknown is None else [*chosen, unknown]
    if len(chosen) != vectors[chosen_by] or not all(0 <= row < size for row in named):
        raise UserError(
            f"{network}: class_rows {chosen}, class_unknown {unknown} of a table of {size} rows",
            expected=f"a row for each of the {vectors[chosen_by]} values of {chosen_by}, from 0 to "
            f"{size - 1}",
        )
    return chosen
