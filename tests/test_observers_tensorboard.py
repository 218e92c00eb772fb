"""What the observer ``tensorboard`` writes is what TensorBoard's own reader finds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from voxella.observers import ObserverSet
from voxella.plugins.component import Component
from voxella.recipe.load import dump_recipe
from voxella.testing.observers import a_recipe


def start(run: Path, first_step: int = 0) -> ObserverSet:
    watching = ObserverSet([Component(name="tensorboard")])
    watching.run_start(run, a_recipe(), "train", total_steps=4, first_step=first_step)
    return watching


def read(run: Path) -> Any:
    events = EventAccumulator(str(run / "tensorboard" / "train"))
    events.Reload()
    return events


def series(events: Any, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_scalars_metrics_and_pictures_are_found(tmp_path: Path) -> None:
    watching = start(tmp_path)
    watching.step_end(1, {"loss/total": 0.5, "lr": 1e-4})
    watching.step_end(2, {"loss/total": 0.25, "lr": 5e-5})
    watching.metric(2, "validation/psnr", 21.5)
    watching.images(2, "panel/axial", np.full((6, 8), 128, dtype=np.uint8))
    colours = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    watching.images(2, "panel/colours", colours)
    watching.run_end("finished")
    events = read(tmp_path)
    assert series(events, "loss/total") == [(1, 0.5), (2, 0.25)]
    rates = [value for _, value in series(events, "lr")]
    assert rates == pytest.approx([1e-4, 5e-5])
    assert series(events, "validation/psnr") == [(2, 21.5)]
    (picture,) = events.Images("panel/axial")
    assert (picture.step, picture.height, picture.width) == (2, 6, 8)
    (picture,) = events.Images("panel/colours")
    kept = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    np.testing.assert_array_equal(kept, colours)


def test_recipe_is_text(tmp_path: Path) -> None:
    start(tmp_path).run_end("finished")
    (event,) = read(tmp_path).Tensors("recipe/text_summary")
    shown = event.tensor_proto.string_val[0].decode()
    lines = [line.removeprefix("    ") for line in shown.splitlines()]
    assert lines == dump_recipe(a_recipe()).splitlines()


def test_a_resumed_run_hides_the_steps_it_does_again(tmp_path: Path) -> None:
    killed = start(tmp_path)
    for step in (1, 2, 3):
        killed.step_end(step, {"loss/total": 9.0})
    killed.run_end("interrupted")
    resumed = start(tmp_path, first_step=2)
    for step in (3, 4):
        resumed.step_end(step, {"loss/total": 1.0})
    resumed.run_end("finished")
    assert series(read(tmp_path), "loss/total") == [(1, 9.0), (2, 9.0), (3, 1.0), (4, 1.0)]


def test_stages_do_not_mix(tmp_path: Path) -> None:
    for stage in ("autoencoder", "train"):
        watching = ObserverSet([Component(name="tensorboard")])
        watching.run_start(tmp_path, a_recipe(), stage, total_steps=1)
        watching.run_end("finished")
    folders = {path.name for path in (tmp_path / "tensorboard").iterdir()}
    assert folders == {"autoencoder", "train"}
