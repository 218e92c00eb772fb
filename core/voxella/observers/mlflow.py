"""Observer ``mlflow``: a run for MLflow in a folder of files, beside TensorBoard's."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxella.errors import UserError
from voxella.observers.settings import settings_told
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from voxella.recipe.model import Recipe

__all__ = ["MlflowObserver", "mlflow", "voxella_factory"]

# Said before the import. MLflow would tell its makers of every run, and ask git about the folder;
# its store of files is kept as it is by its makers and wants to be asked for.
_BEFORE = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}
_RUN, _STAGE = "voxella.run", "voxella.stage"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_LONGEST = 500  # characters of a parameter's value


class MlflowObserver:
    """Write settings, scalars and pictures where ``mlflow ui`` finds them.

    Nothing leaves the machine: the store is a folder of files, MLflow's telemetry is switched off.
    A stage is one MLflow run, found again by its run folder and stage when it goes on. The steps
    that a killed training does again are then there twice, as MLflow forgets nothing.

    Args:
        folder: The store, shared by the runs that are to be compared; None: ``RUN/mlflow``.
        every_steps: Scalars of every so many steps are written, and of the last one.
    """

    def __init__(self, folder: Path | None = None, every_steps: int = 10) -> None:
        self._folder = folder
        self._every_steps = every_steps
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._total = 0

    @hookimpl
    def voxella_run_start(
        self, run_dir: Path, recipe: Recipe, stage: str, total_steps: int
    ) -> None:
        """Open the stage's run, or go on with it."""
        os.environ.update(_BEFORE)
        from mlflow.tracking import MlflowClient

        folder = (run_dir / "mlflow" if self._folder is None else self._folder).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        self._total = total_steps
        self._client = MlflowClient(tracking_uri=folder.as_uri())
        # A folder's name may be a person's.
        known = hashlib.sha256(str(run_dir.absolute()).encode()).hexdigest()
        tags = {_RUN: known, _STAGE: stage}
        settings = settings_told(recipe)
        self._run_id = self._found(recipe.name, tags) or self._made(recipe.name, settings, tags)

    @hookimpl
    def voxella_step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the scalars of a step that is told."""
        if step % self._every_steps == 0 or step == self._total:
            self._log(step, scalars)

    @hookimpl
    def voxella_images(self, step: int, name: str, image: Any) -> None:  # noqa: ANN401 - uint8 array
        """Write a picture, grey ``(H, W)`` or in colours ``(H, W, 3)``, as ``NAME/STEP.png``."""
        if self._client is not None:
            # Two axes would be taken for colours of one row.
            shown = image[..., None] if image.ndim == 2 else image
            self._client.log_image(self._run_id, shown, f"{name}/{step:07d}.png")

    @hookimpl
    def voxella_metric(self, step: int, name: str, value: float) -> None:
        """Write a number that is measured now and then."""
        self._log(step, {name: value})

    @hookimpl
    def voxella_run_end(self, status: str) -> None:
        """Close the run."""
        if self._client is not None:
            self._client.set_terminated(self._run_id, _STATUS[status])
            self._client = None

    def _found(self, name: str, tags: Mapping[str, str]) -> str | None:
        assert self._client is not None
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return None
        runs = self._client.search_runs([experiment.experiment_id])
        same = [run for run in runs if tags.items() <= run.data.tags.items()]
        if not same:
            return None
        run_id = str(same[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        return run_id

    def _made(self, name: str, settings: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        assert self._client is not None
        experiment = self._client.get_experiment_by_name(name)
        number = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        run = self._client.create_run(number, tags=dict(tags), run_name=f"{name} {tags[_STAGE]}")
        run_id = str(run.info.run_id)
        for key, value in settings.items():
            self._client.log_param(run_id, key, str(value)[:_LONGEST])
        return run_id

    def _log(self, step: int, numbers: Mapping[str, float]) -> None:
        if self._client is not None:
            for name, value in numbers.items():
                self._client.log_metric(self._run_id, name, float(value), step=step)


def mlflow(*, folder: str | None = None, every_steps: int = 10) -> MlflowObserver:
    """Build the observer; see :class:`MlflowObserver`.

    Raises:
        UserError: MLflow is not installed, or the folder is an address.
    """
    from importlib.util import find_spec

    if find_spec("mlflow") is None:
        raise UserError(
            "observer mlflow: MLflow is not installed", remedy="pip install 'voxella[mlflow]'"
        )
    if folder is not None and "://" in folder:
        raise UserError(
            "observer mlflow: folder is an address; voxella sends nothing to a server",
            expected="a folder on this machine, such as runs/mlflow",
            remedy="copy the folder to the server yourself",
        )
    return MlflowObserver(None if folder is None else Path(folder), every_steps)


@hookimpl
def voxella_factory(name: str) -> Callable[..., MlflowObserver] | None:
    """Return the builder of ``mlflow``."""
    return mlflow if name == "mlflow" else None
