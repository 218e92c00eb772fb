"""The hooks of an observer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from voxella.plugins.specs import hookspec

__all__ = ["ObserverSpec"]

if TYPE_CHECKING:
    from pathlib import Path

    from voxella.recipe.model import Recipe


class ObserverSpec:
    """Hooks of an observer. The object an observer's builder returns implements any of them.

    Called on rank 0 only, always in this order. Nothing here may alter a run; nothing handed over
    holds report text.
    """

    @hookspec
    def voxella_run_start(
        self, run_dir: Path, recipe: Recipe, stage: str, total_steps: int, first_step: int
    ) -> None:
        """Observe the start of a stage. ``first_step`` is above 0 when the run resumes."""

    @hookspec
    def voxella_step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        """Observe the end of optimizer step ``step`` (1-based), with its named scalars."""

    @hookspec
    def voxella_images(self, step: int, name: str, image: Any) -> None:  # noqa: ANN401 - uint8 array
        """Observe a panel of fixed-seed samples, uint8: grey ``(H, W)``, colours ``(H, W, 3)``."""

    @hookspec
    def voxella_metric(self, step: int, name: str, value: float) -> None:
        """Observe a number that is measured now and then, such as a validation PSNR."""

    @hookspec
    def voxella_run_end(self, status: str) -> None:
        """Observe the end: ``finished``, ``failed`` or ``interrupted``."""
