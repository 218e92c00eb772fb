"""A class head: context tokens to logits."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ClassHead"]


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
