"""The batch that a model learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """Cases as the model learns from them. ``B`` cases, ``K`` classes, ``n`` spatial axes.

    Attributes:
        case_ids: B ids, for messages; never handed to a network.
        latents: ``(B, C, *spatial)``, already scaled to unit variance.
        noise: Like ``latents``, standard normal.
        timesteps: ``(B,)`` int64, in steps of the schedule.
        text_features: ``(B, L, F)``, or None when the conditioner reads no text.
        text_mask: ``(B, L)`` bool, True where a token is real; None when all are.
        label: ``(B, K)`` one-hot; a row of zeros means that the label is unknown.
        has_report: ``(B,)`` bool; cases without one take no part in the class loss.
        spacing_mm: ``(B, n)``, or None when the recipe lists no spacing vector.
        drop_label: ``(B,)`` bool, True where the class vector is nulled (guidance training).
        conditions: ``{name: (B, width)}`` of the recipe's conditions; zeros: not known.
        class_count: What the class loss's sum is divided by. Set by the engine so that the mean
            runs over the reported cases of the GLOBAL batch; None: over this batch's.
        present: ``(B, C)`` bool, False for channels of sequences that a case lacks; None: no case
            lacks any.
    """

    case_ids: tuple[str, ...]
    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    text_features: Tensor | None
    text_mask: Tensor | None
    label: Tensor
    has_report: Tensor
    spacing_mm: Tensor | None = None
    drop_label: Tensor | None = None
    class_count: Tensor | None = None
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    present: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {
            item.name: value.to(device, non_blocking=True)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        moved["conditions"] = {
            name: value.to(device, non_blocking=True) for name, value in self.conditions.items()
        }
        return replace(self, **moved)
