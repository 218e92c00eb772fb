"""CCELLA: ELLA's context, and a class vector that heads on the context predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella_conditioners.connector import Connector
from voxella_conditioners.inputs import require_text

__all__ = ["Ccella", "ClassHead", "Placement"]

Placement = Literal["each", "shared", "first", "last"]


class Ccella(nn.Module):
    """Context tokens and class logits from the report (CCELLA, arXiv 2506.10230).

    The class vector is the softmax of the logits, so that the reconstruction loss reaches the
    heads as well. The label itself is never read.

    Args:
        connector: Turns text features into context.
        num_classes: Number of classes K.
        placement: Where the heads sit. ``each``: one per block; ``shared``: one head read after
            every block; their logits are joined by a linear layer. ``first``, ``last``: one head
            after that block, whose logits are final.
        head_hidden: Hidden width of a head.
    """

    context_dim: int | None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str]

    def __init__(
        self, connector: Connector, *, num_classes: int, placement: Placement, head_hidden: int
    ) -> None:
        super().__init__()
        self.connector = connector
        self.context_dim = connector.width
        self.vector_sizes = {"class": num_classes}
        self.needs = frozenset({"text"})
        blocks = len(connector.blocks)
        # Blocks whose output is read, and the index of the head that reads each.
        self.taps: list[tuple[int, int]] = {
            "each": [(block, block) for block in range(blocks)],
            "shared": [(block, 0) for block in range(blocks)],
            "first": [(0, 0)],
            "last": [(blocks - 1, 0)],
        }[placement]
        self.heads = nn.ModuleList(
            ClassHead(connector.num_queries, connector.width, head_hidden, num_classes)
            for _ in {head for _, head in self.taps}
        )
        joined = placement in ("each", "shared")
        self.join = nn.Linear(blocks * num_classes, num_classes) if joined else None

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
            UserError: When the text features are absent or of another width.
        """
        text = require_text(text_features, self.connector.text_dim)
        outputs = self.connector(timesteps, text, text_mask)
        logits = self._logits(outputs)
        return Conditioning(
            context=outputs[-1],
            # float32 as a label is: rounding a probability to bfloat16 costs 0.4 % times 100.
            vectors={"class": logits.softmax(dim=-1, dtype=torch.float32)},
            class_logits=logits,
        )

    def _logits(self, outputs: list[Tensor]) -> Tensor:
        parts = [self.heads[head](outputs[block]) for block, head in self.taps]
        joined: Tensor = parts[0] if self.join is None else self.join(torch.cat(parts, dim=-1))
        return joined


class ClassHead(nn.Module):
    """Flatten, linear, ReLU, linear (CCELLA, arXiv 2506.10230).

    The first layer sees every channel of every token: 256 x 768 x 256, 50 million weights at the
    paper's sizes, so that six heads weigh more than the denoiser.

    Args:
        queries: Number Q of context tokens.
        width: Width C of the context tokens.
        hidden: Width of the hidden layer.
        num_classes: Number of logits K.
    """

    def __init__(self, queries: int, width: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(queries * width, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, context: Tensor) -> Tensor:
        """Map ``(B, Q, C)`` to logits ``(B, K)``."""
        logits: Tensor = self.fc2(nn.functional.relu(self.fc1(context.flatten(1))))
        return logits
