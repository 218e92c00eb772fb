"""What the observer ``mlflow`` writes is what MLflow's own client finds."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from voxella.errors import UserError
from voxella.observers import ObserverSet
from voxella.observers.mlflow import mlflow
from voxella.plugins.component import Component
from voxella.testing.observers import a_recipe


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is connected, as MLflow's telemetry would."""

    def refused(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a connection to {address!r}")

    monkeypatch.setattr(socket.socket, "connect", refused)


def start(run: Path, stage: str = "train", first_step: int = 0, **settings: Any) -> ObserverSet:
    watching = ObserverSet([Component(name="mlflow", **settings)])
    watching.run_start(run, a_recipe(), stage, total_steps=25, first_step=first_step)
    return watching


def runs(folder: Path) -> tuple[Any, list[Any]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=folder.absolute().as_uri())
    numbers = [experiment.experiment_id for experiment in client.search_experiments()]
    return client, list(client.search_runs(numbers))


def history(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]


def test_settings_scalars_and_pictures_are_found(tmp_path: Path) -> None:
    watching = start(tmp_path)
    for step in range(1, 26):
        watching.step_end(step, {"loss/total": 1 / step})
    watching.metric(25, "validation/psnr", 21.5)
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    watching.images(20, "panel/axial", grey)
    watching.images(20, "panel/colours", np.stack([grey, grey // 2, grey // 3], axis=-1))
    watching.run_end("finished")
    client, (run,) = runs(tmp_path / "mlflow")
    assert history(client, run, "loss/total") == [(10, 0.1), (20, 0.05), (25, 0.04)]
    assert history(client, run, "validation/psnr") == [(25, 21.5)]
    assert run.info.status == "FINISHED"
    recipe = a_recipe()
    assert run.data.params["conditioner.name"] == recipe.conditioner.name
    assert run.data.params["optimizer.lr"] == str(recipe.optimizer.lr)
    stored = Path(client.download_artifacts(run.info.run_id, "panel"))
    np.testing.assert_array_equal(np.asarray(Image.open(stored / "axial" / "0000020.png")), grey)
    colours = np.asarray(Image.open(stored / "colours" / "0000020.png"))
    np.testing.assert_array_equal(colours[..., 1], grey // 2)


def test_a_resumed_stage_goes_on_with_its_run_and_another_has_its_own(tmp_path: Path) -> None:
    killed = start(tmp_path, every_steps=1)
    killed.step_end(1, {"loss/total": 2.0})
    killed.run_end("interrupted")
    _, (run,) = runs(tmp_path / "mlflow")
    assert run.info.status == "KILLED"
    resumed = start(tmp_path, first_step=1, every_steps=1)
    resumed.step_end(2, {"loss/total": 1.0})
    resumed.run_end("finished")
    start(tmp_path, stage="evaluate").run_end("failed")
    client, found = runs(tmp_path / "mlflow")
    states = {one.data.tags["voxella.stage"]: one.info.status for one in found}
    assert states == {"train": "FINISHED", "evaluate": "FAILED"}
    assert history(client, run, "loss/total") == [(1, 2.0), (2, 1.0)]


def test_runs_share_a_store_that_is_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    for name in ("one", "two"):
        start(tmp_path / name, folder=str(store)).run_end("finished")
    assert len(runs(store)[1]) == 2
    assert not (tmp_path / "one" / "mlflow").exists()


def test_no_name_of_a_folder_is_written(tmp_path: Path) -> None:
    start(tmp_path / "Lovelace-Ada", folder=str(tmp_path / "store")).run_end("finished")
    for path in (tmp_path / "store").rglob("*"):
        assert not path.is_file() or b"Lovelace" not in path.read_bytes(), path


def test_a_server_is_refused_and_telemetry_is_off(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sends nothing to a server"):
        mlflow(folder="http://tracking.example:5000")
    start(tmp_path).run_end("finished")
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
