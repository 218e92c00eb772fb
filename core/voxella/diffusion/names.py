"""Names that recipes and mathematics share; nothing here needs torch, which takes seconds."""

from __future__ import annotations

from typing import Literal

__all__ = [
    "Family",
    "Prediction",
    "Reconstruction",
    "ScheduleName",
    "TimestepDraw",
    "family_of",
]

ScheduleName = Literal["scaled_linear", "linear", "cosine", "rectified_flow"]
Prediction = Literal["epsilon", "v", "x0", "flow"]
Reconstruction = Literal["l1", "mse"]
TimestepDraw = Literal["uniform", "logit_normal"]
Family = Literal["variance-preserving", "flow"]


def family_of(schedule: str) -> Family:
    """Return the family of a schedule: the straight path of a rectified flow, or the others."""
    return "flow" if schedule == "rectified_flow" else "variance-preserving"
