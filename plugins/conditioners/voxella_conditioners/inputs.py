"""Checks on what a conditioner is called with, so that a mistake names itself."""

from __future__ import annotations

from torch import Tensor

from voxella.errors import UserError

__all__ = ["require_label", "require_text"]


def require_text(features: Tensor | None, width: int) -> Tensor:
    """Return ``features`` when they are ``(B, L, width)``.

    Raises:
        UserError: When they are absent or of another width.
    """
    if features is None:
        raise UserError(
            "this model reads reports, and no text features were given",
            remedy="give text_features of shape (B, L, F); encode the empty string for no report",
        )
    if features.ndim != 3 or features.shape[-1] != width:
        raise UserError(
            f"text features of shape {tuple(features.shape)}",
            expected=f"(B, L, {width}): the width of the text encoder the model was trained with",
        )
    return features


def require_label(label: Tensor | None, num_classes: int) -> Tensor:
    """Return ``label`` when it is ``(B, num_classes)``.

    Raises:
        UserError: When it is absent or of another width.
    """
    if label is None:
        raise UserError(
            "this model is conditioned on a label, and none was given",
            remedy=f"give label of shape (B, {num_classes}), one-hot; zeros mean unknown",
        )
    if label.ndim != 2 or label.shape[-1] != num_classes:
        raise UserError(
            f"label of shape {tuple(label.shape)}", expected=f"(B, {num_classes}), one-hot"
        )
    return label
