"""One recipe of a study, or one of its trainings: where it runs, how far, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxella.recipe.model import Recipe
from voxella.recipe.sampling import variant_name

__all__ = ["Step"]


@dataclass(frozen=True)
class Step:
    """One recipe of the study, or one of its trainings.

    Attributes:
        name: The recipe's, and its folder's; of a sweep, the row's; of a second training and those
            after it with the seed behind.
        recipe: Resolved, in the study's workspace.
        source: Its file.
        folder: Its run folder.
        until: The last stage that the study needs of it.
        training: Which of the recipe's, from 0.
        row_name: The row that it belongs to; None: its own name.
    """

    name: str
    recipe: Recipe
    source: Path
    folder: Path
    until: str
    training: int = 0
    row_name: str | None = None

    @property
    def row(self) -> str:
        """Return the row of a table that it belongs to."""
        return self.row_name or self.name

    @property
    def suffix(self) -> str:
        """Return what stands behind the names of trainings after the first."""
        return f"-seed-{self.recipe.seed}" if self.training else ""

    @property
    def samples(self) -> Path:
        """Return its synthetic data set."""
        return self.folder / "samples" / self._variant

    @property
    def _variant(self) -> str:
        # The data sets of a sweep lie beside each other in the one run.
        sample = self.recipe.sample
        return "" if sample.sweep is None else variant_name(sample.steps, sample.guidance)

    @property
    def metrics(self) -> Path:
        """Return the file that will hold its numbers."""
        if self.until == "check-autoencoder":
            return (self.recipe.workspace or self.folder) / "autoencoder" / "check.json"
        if self.until == "classify":
            return self.folder / "classify" / self.recipe.name / "metrics.json"
        return self.folder / "evaluation" / self._variant / "metrics.json"
