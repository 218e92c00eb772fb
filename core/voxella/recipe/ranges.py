"""Whole numbers of a recipe with the largest that anybody means: a slip of the hand is refused.

Without an end, a number is believed until memory or the user's patience is gone. These ends lie
far above any experiment; what a file may ask for is in :mod:`voxella.limits`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = [
    "Batch",
    "Copies",
    "Count",
    "CountOrNone",
    "Pairs",
    "Resamples",
    "ResamplesOrNone",
    "Seed",
    "SolverSteps",
    "Tokens",
    "Voxels",
    "Width",
]

# Steps, epochs, cases: 30 years at one a second.
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
# What torch and numpy take, signed or not.
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
# Along one axis.
Voxels = Annotated[int, Field(ge=1, le=16_384)]
# Channels, features, tokens' width.
Width = Annotated[int, Field(ge=1, le=65_536)]
Tokens = Annotated[int, Field(ge=1, le=65_536)]
Batch = Annotated[int, Field(ge=1, le=65_536)]
# Tables of a schedule are held in memory.
SolverSteps = Annotated[int, Field(ge=1, le=100_000)]
Copies = Annotated[int, Field(ge=1, le=10_000)]
Resamples = Annotated[int, Field(ge=1, le=1_000_000)]
ResamplesOrNone = Annotated[int, Field(ge=0, le=1_000_000)]
Pairs = Annotated[int, Field(ge=1, le=1_000_000)]
