"""Conditioners without text: none at all, and the radiologist's label."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella_conditioners.inputs import require_label

__all__ = ["LabelConditioning", "NoConditioning"]


class NoConditioning(nn.Module):
    """Reads nothing and says nothing (the paper's ``base``)."""

    context_dim: int | None = None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        self.vector_sizes = {}

    def forward(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None = None,
        text_mask: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Conditioning:
        """Return an empty conditioning; every argument is ignored."""
        return Conditioning()


class LabelConditioning(nn.Module):
    """Passes the label on as vector ``class`` (the paper's ``radbase``). It learns nothing.

    Args:
        num_classes: Number of classes K.
    """

    context_dim: int | None = None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str] = frozenset({"label"})

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.vector_sizes = {"class": num_classes}

    def forward(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None = None,
        text_mask: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Conditioning:
        """Return ``label`` ``(B, K)`` as vector ``class``, unscaled; the text is ignored.

        Raises:
            UserError: When the label is absent or of another width.
        """
        return Conditioning(vectors={"class": require_label(label, self.vector_sizes["class"])})
