"""The text as it was encoded: every token is one that the denoiser attends to."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_conditioners.inputs import require_text

__all__ = ["RawTokens"]


class RawTokens(nn.Module):
    """Passes text features on as context (Rombach et al. 2022, section 3.3). It learns nothing.

    Args:
        text_dim: Width F of the text features.
        masked: Whether padding is hidden. Without, texts have to be of one length.
    """

    context_dim: int | None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str] = frozenset({"text"})

    def __init__(self, text_dim: int, *, masked: bool) -> None:
        super().__init__()
        self.context_dim = text_dim
        self.vector_sizes = {}
        self.masked = masked

    def forward(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Conditioning:
        """Return the features ``(B, L, F)`` and their mask.

        Raises:
            UserError: When the features are absent or of another width, or padding that may not be
                hidden stands between texts of different length.
        """
        text = require_text(text_features, int(self.context_dim or 0))
        if text_mask is not None and not self.masked:
            raise UserError(
                "conditioner cross_attention hides no padding (masked: false), and the texts of a "
                "batch differ in length",
                expected="texts padded to one length: text.padding=max",
                remedy="--set text.padding=max, or --set conditioner.masked=true",
            )
        return Conditioning(context=text, context_mask=text_mask)
