"""ELLA: the report as context, with or without the radiologist's label beside it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella_conditioners.connector import Connector
from voxella_conditioners.inputs import require_label, require_text

__all__ = ["Ella"]


class Ella(nn.Module):
    """Context tokens from the report (the paper's ``ellabase`` and ``decoupled``).

    Args:
        connector: Turns text features into context.
        num_classes: Number of classes K; used with ``class_vector``.
        class_vector: Also pass the label on as vector ``class``.
    """

    context_dim: int | None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str]

    def __init__(self, connector: Connector, *, num_classes: int, class_vector: bool) -> None:
        super().__init__()
        self.connector = connector
        self.context_dim = connector.width
        self.vector_sizes = {"class": num_classes} if class_vector else {}
        self.needs = frozenset({"text", "label"} if class_vector else {"text"})

    def forward(
        self,
        *,
        timesteps: Tensor,
        text_features: Tensor | None = None,
        text_mask: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Conditioning:
        """Condition a batch; see :class:`voxella.plugins.contracts.Conditioner`.

        Raises:
            UserError: When an input that is needed is absent or of another width.
        """
        text = require_text(text_features, self.connector.text_dim)
        context = self.connector(timesteps, text, text_mask)[-1]
        vectors = {
            name: require_label(label, classes) for name, classes in self.vector_sizes.items()
        }
        return Conditioning(context=context, vectors=vectors)
