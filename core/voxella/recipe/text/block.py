"""The block ``text``: which reports are read, by which encoder, and what stands for absent ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from voxella.case.texts import ANY
from voxella.plugins.component import Component
from voxella.recipe.block import Block, TextName, Tokens, Width
from voxella.recipe.text.synthesise import Synthesise

__all__ = ["Text", "computed_in"]


class Text(Block):
    """Reports to cached token features."""

    encoder: Component
    width: Width = Field(description="feature width F; the encoder's must equal it")
    max_tokens: Tokens = 512
    truncation: Literal["right", "left"] = Field(
        "right", description="which END of a long report is cut off"
    )
    padding: Literal["none", "max"] = Field(
        "none", description="max: paper mode, padded and unmasked"
    )
    dtype: Literal["bfloat16", "float32", "compact"] = Field(
        "bfloat16", description="compact: 6 bits a value, see docs/explanation/caches.md"
    )
    source: TextName = Field(
        ANY,
        # Left out where it is the default: hashes from before are those without it.
        exclude_if=lambda source: source == ANY,
        description="which text of a case: its name (report, impression), or any: in training one "
        "by chance at each visit, else the first, the report before the others by name",
    )
    replace_markers: bool = Field(
        False, description="leave marks of de-identification (___, [NAME], XXXX) out of reports"
    )
    # Both left out where they are not asked for: recipes and hashes from before are without them.
    reports_share: float = Field(
        1.0,
        ge=0,
        le=1,
        exclude_if=lambda share: share == 1.0,
        description="of the training cases with a report: those that are read, drawn by (seed, "
        "case); of 0.25 they are among those of 0.5",
    )
    synthesise: Synthesise | None = Field(
        None,
        exclude_if=lambda synthesise: synthesise is None,
        description="texts by rule for training cases of which no report is read; None: the empty "
        "report",
    )

    @property
    def encoder_dtype(self) -> str:
        """Return in what the encoder computes: as told, else in what holds the features."""
        told = self.encoder.arguments.get("dtype")
        return computed_in(self.dtype) if told is None else str(told)


def computed_in(stored: str) -> str:
    """Return in what features are computed that are stored as ``text.dtype`` says.

    Compact features hold fewer bits than bfloat16, so more would be lost on them.
    """
    return "float32" if stored == "float32" else "bfloat16"
