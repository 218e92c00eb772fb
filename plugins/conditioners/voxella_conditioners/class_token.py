"""The class as a context of one token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella.weights import read_state_dict
from voxella_conditioners.inputs import require_label

__all__ = ["ClassToken"]

# The table's name in a checkpoint of latent diffusion, and in one of ours.
_RELEASED = ("cond_stage_model.embedding.weight", "conditioner.embedding.weight")


class ClassToken(nn.Module):
    """One learned vector per class, and a last one for an unknown class.

    Latent diffusion's ``ClassEmbedder`` (Rombach et al. 2022, class-conditional ImageNet), whose
    null class is the last too. It is what a case sees whose label is missing or dropped, so
    ``dropout.label`` trains it; the released PathLDM never did.

    Args:
        num_classes: Number of classes K.
        width: Width of the token.
        weights: Checkpoint to take the table of K + 1 rows from, or None.

    Raises:
        UserError: The file holds no such table, or one of another size.
    """

    context_dim: int | None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str] = frozenset({"label"})

    def __init__(self, num_classes: int, width: int, weights: Path | None = None) -> None:
        super().__init__()
        self.context_dim = width
        self.vector_sizes = {}
        self.num_classes = num_classes
        # A linear map without bias of K + 1 indicators: a table that ZeRO 3 gathers when called.
        self.embedding = _Table(num_classes + 1, width)
        if weights is not None and not self.embedding.weight.is_meta:
            self._load(Path(weights))

    def forward(self, *, timesteps: Tensor, label: Tensor | None = None) -> Conditioning:
        """Return the vector of ``label`` ``(B, K)`` as ``(B, 1, width)``; zeros take the last.

        Raises:
            UserError: When the label is absent or of another width.
        """
        given = require_label(label, self.num_classes)
        unknown = 1 - given.sum(dim=1, keepdim=True)
        token: Tensor = self.embedding(torch.cat([given, unknown], dim=1))
        return Conditioning(context=token[:, None])

    def _load(self, path: Path) -> None:
        remedy = "name an existing file under conditioner.weights"
        state = read_state_dict(path, what="the class embedding", remedy=remedy)
        table = next((state[name] for name in _RELEASED if name in state), None)
        expected = tuple(self.embedding.weight.shape)
        if table is None or tuple(table.shape) != expected:
            told = "no class embedding" if table is None else f"one of shape {tuple(table.shape)}"
            raise UserError(
                f"{path} holds {told}",
                expected=f"{_RELEASED[0]} of shape {expected}: all classes, then the null class",
                remedy="name the right file, or set data.classes and conditioner.width as it has",
            )
        with torch.no_grad():
            self.embedding.weight.copy_(table)


class _Table(nn.Module):
    """Rows by their indicators; drawn from a standard normal, as an embedding's are."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(rows, width))

    def forward(self, indicators: Tensor) -> Tensor:
        """Map ``(B, rows)`` to ``(B, width)``."""
        return indicators.to(self.weight.dtype) @ self.weight
