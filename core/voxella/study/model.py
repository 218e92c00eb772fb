"""The study as data: which recipes, which columns, which claims. Reading files is ``load.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from voxella.quoting import named
from voxella.recipe.block import Block, FolderName
from voxella.recipe.shape import nearest
from voxella.study.names import KNOWN

__all__ = ["Claim", "Collection", "Study"]


def _known(metric: str) -> str:
    if metric not in KNOWN:
        close = nearest(metric, KNOWN)
        hint = f"did you mean {close}?" if close else f"legal: {', '.join(KNOWN)}"
        raise ValueError(f"there is no metric {named(metric)}; {hint}")
    return metric


Metric = Annotated[str, AfterValidator(_known)]


class Claim(Block):
    """A statement that the numbers can bear out or not; lists stand for each of their members."""

    text: str = Field(min_length=1, description="the statement, in the paper's words")
    metric: Metric | list[Metric] = Field(description="what is compared")
    left: str | list[str] = Field(description="names of recipes")
    side: Literal["below", "above"] = Field(description="of left, seen from right")
    right: str | list[str] = Field(description="names of recipes")

    @property
    def metrics(self) -> list[str]:
        """Return the metrics as a list."""
        return [self.metric] if isinstance(self.metric, str) else list(self.metric)

    @property
    def lefts(self) -> list[str]:
        """Return the recipes on the left as a list."""
        return [self.left] if isinstance(self.left, str) else list(self.left)

    @property
    def rights(self) -> list[str]:
        """Return the recipes on the right as a list."""
        return [self.right] if isinstance(self.right, str) else list(self.right)


class Study(Block):
    """One table: every recipe is a row."""

    name: FolderName = Field(description="of the table and of the study's folder")
    description: str = ""
    recipes: list[Path] = Field(min_length=1, description="paths, relative to this file")
    samples_from: Path | None = Field(
        None, description="recipe whose volumes the classifiers are trained on; it runs first"
    )
    columns: list[Metric] = Field(min_length=1, description="metrics")
    claims: list[Claim] = Field(default_factory=list)

    @field_validator("columns", "recipes")
    @classmethod
    def _distinct(cls, entries: list[str] | list[Path]) -> list[str] | list[Path]:
        if len(set(entries)) != len(entries):
            raise ValueError("an entry stands twice")
        return entries


class Collection(Block):
    """Several studies in one folder: a recipe that stands in two of them runs once."""

    name: FolderName = Field(description="of the study's folder")
    description: str = ""
    studies: list[Path] = Field(min_length=1, description="paths, relative to this file")
