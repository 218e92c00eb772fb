"""What ``voxella view PATH`` is shown: a model, a run, a data set or a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxella.case import manifest_file
from voxella.errors import UserError
from voxella.ldm.model_folder.facts import is_model
from voxella.report.run_folder import RECIPE, RunFolder
from voxella.report.study_page import TABLE
from voxella.wording import shown_path

__all__ = ["Target"]

_EXPECTED = "a model folder, a run, a data set (with a manifest), or a study's folder"


@dataclass(frozen=True)
class Target:
    """One folder, as what it is.

    Attributes:
        path: The folder, absolute.
        model: Of a trained model; None where there is none.
        runs: The runs in it: itself, or those of a study.
        dataset: With a manifest; None where there is none.
    """

    path: Path
    model: Path | None
    runs: tuple[RunFolder, ...]
    dataset: Path | None

    @property
    def name(self) -> str:
        """Return the folder's name; its path is nobody's business."""
        return self.path.name

    @classmethod
    def of(cls, path: Path) -> Target:
        """Look what a folder is.

        Raises:
            UserError: It is nothing that can be viewed, or a recipe in it cannot be read.
        """
        folder = Path(path).absolute()
        if not folder.is_dir():
            raise UserError(f"{shown_path(folder)}: there is no such folder", expected=_EXPECTED)
        if is_model(folder):
            return cls(folder, folder, (), None)
        if _is_run(folder):
            run = RunFolder.open(folder)
            model = folder / "model"
            data = run.folders.dataset
            there = manifest_file(data) is not None
            return cls(folder, model if is_model(model) else None, (run,), data if there else None)
        if manifest_file(folder) is not None:
            return cls(folder, None, (), folder)
        runs = [RunFolder.open(one) for one in sorted(folder.iterdir()) if _is_run(one)]
        if (folder / TABLE).is_file() or runs:
            return cls(folder, None, tuple(runs), None)
        raise UserError(
            f"{shown_path(folder)}: there is nothing to view in it",
            expected=_EXPECTED,
            remedy="voxella run RECIPE --out RUN   (trains one)",
        )


def _is_run(folder: Path) -> bool:
    """Return whether a folder is a run that has begun: it keeps its recipe."""
    return (folder / RECIPE).is_file() or any(folder.glob(f"classify/*/{RECIPE}"))
