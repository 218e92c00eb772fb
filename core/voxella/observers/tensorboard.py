"""Observer ``tensorboard``: event files under ``RUN/tensorboard/STAGE``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.observers.settings import settings_told
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from voxella.recipe.model import Recipe

__all__ = ["TensorBoardObserver", "tensorboard", "voxella_factory"]


class TensorBoardObserver:
    """Write scalars, pictures and the resolved recipe where TensorBoard finds them.

    Each stage has a folder of its own, so that the steps of the autoencoder's training and of
    the diffusion model's do not run into each other.

    Args:
        flush_seconds: Longest time until a written value can be seen.
    """

    def __init__(self, flush_seconds: int = 30) -> None:
        self._flush_seconds = flush_seconds
        self._writer: SummaryWriter | None = None
        self._settings: dict[str, Any] = {}
        self._measured: dict[str, float] = {}
        self._step = 0

    @hookimpl
    def voxella_run_start(
        self, run_dir: Path, recipe: Recipe, stage: str, total_steps: int, first_step: int
    ) -> None:
        """Open the event file and write the recipe."""
        from torch.utils.tensorboard import SummaryWriter

        from voxella.recipe.load import dump_recipe

        # A run that was killed has written steps after its last checkpoint: hide them.
        self._writer = SummaryWriter(
            str(run_dir / "tensorboard" / stage),
            purge_step=first_step + 1,
            flush_secs=self._flush_seconds,
        )
        # TensorBoard renders Markdown: four spaces keep the YAML as it is.
        # A stage without steps only measures: its numbers are the run's results.
        self._settings = settings_told(recipe) if total_steps == 0 else {}
        self._measured = {}
        text = "".join(f"    {line}\n" for line in dump_recipe(recipe).splitlines())
        self._write("add_text", "recipe", text, first_step)

    @hookimpl
    def voxella_step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write every scalar under its own name."""
        for name, value in scalars.items():
            self._write("add_scalar", name, value, step)

    @hookimpl
    def voxella_images(self, step: int, name: str, image: Any) -> None:  # noqa: ANN401 - uint8 array
        """Write a picture, grey ``(H, W)`` or in colours ``(H, W, 3)``."""
        self._write("add_image", name, image, step, dataformats="HW" if image.ndim == 2 else "HWC")

    @hookimpl
    def voxella_metric(self, step: int, name: str, value: float) -> None:
        """Write a number that is measured now and then."""
        self._measured[name] = value
        self._step = step
        self._write("add_scalar", name, value, step)

    @hookimpl
    def voxella_run_end(self) -> None:
        """Write the results beside the settings (HParams), flush and close the event file."""
        if self._writer is not None and self._settings and self._measured:
            from torch.utils.tensorboard import summary

            # torch types neither. Not its add_hparams: that writes every number once more.
            make: Any = summary.hparams
            file: Any = self._writer.file_writer
            for part in make(self._settings, self._measured):
                file.add_summary(part)
            self._write("add_text", "results", _table(self._measured), self._step)
        self._write("close")
        self._writer = None

    def _write(self, method: str, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the writer's
        if self._writer is not None:
            getattr(self._writer, method)(*arguments, **named)


def _table(measured: Mapping[str, float]) -> str:
    """Return a run's results as a Markdown table, each as its metric declares it."""
    from voxella.metrics.declared.lookup import number_of

    rows = [
        f"| {key} | {number.full_label} | {value:.6g} | {number.unit} | {number.better} |"
        for key, value in measured.items()
        for number in (number_of(key),)
    ]
    return "\n".join(["| | | value | unit | better |", "|---|---|---|---|---|", *rows])


def tensorboard(*, flush_seconds: int = 30) -> TensorBoardObserver:
    """Build the observer; see :class:`TensorBoardObserver`."""
    return TensorBoardObserver(flush_seconds)


@hookimpl
def voxella_factory(name: str) -> Callable[..., TensorBoardObserver] | None:
    """Return the builder of ``tensorboard``."""
    return tensorboard if name == "tensorboard" else None
