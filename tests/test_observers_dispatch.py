"""Observers hear everything, on rank 0, and can neither stop nor change a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from voxella.errors import UserError
from voxella.observers import ObserverSet
from voxella.observers.specs import ObserverSpec
from voxella.plugins import hookimpl
from voxella.plugins.component import Component
from voxella.recipe.model import Recipe
from voxella.testing.observers import a_recipe

HEARD: list[tuple[str, dict[str, Any]]] = []


class Listener:
    """Implements every hook with every argument."""

    @hookimpl
    def voxella_run_start(
        self, run_dir: Path, recipe: Recipe, stage: str, total_steps: int, first_step: int
    ) -> None:
        HEARD.append(("voxella_run_start", {**locals()}))

    @hookimpl
    def voxella_step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        HEARD.append(("voxella_step_end", {**locals()}))

    @hookimpl
    def voxella_images(self, step: int, name: str, image: np.ndarray[Any, Any]) -> None:
        HEARD.append(("voxella_images", {**locals()}))

    @hookimpl
    def voxella_metric(self, step: int, name: str, value: float) -> None:
        HEARD.append(("voxella_metric", {**locals()}))

    @hookimpl
    def voxella_run_end(self, status: str) -> None:
        HEARD.append(("voxella_run_end", {**locals()}))


class Vandal:
    """Writes into whatever it is handed, and raises when it cannot."""

    @hookimpl
    def voxella_step_end(self, scalars: dict[str, float]) -> None:
        scalars["loss/total"] = 0.0

    @hookimpl
    def voxella_images(self, image: np.ndarray[Any, Any]) -> None:
        image[:] = 0


class Typist:
    """Misspells a hook."""

    @hookimpl
    def voxella_step_done(self, step: int) -> None:
        del step


def listener() -> Listener:
    return Listener()


def vandal() -> Vandal:
    return Vandal()


def typist() -> Typist:
    return Typist()


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    builders = {"listener": listener, "vandal": vandal, "typist": typist}
    module = ModuleType("observers_under_test")
    vars(module).update(builders)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = [f"observers:{name}={module.__name__}:{name}" for name in builders]
    monkeypatch.setenv("VOXELLA_PLUGINS", ",".join(entries))
    HEARD.clear()


def observers(*names: str, rank: int = 0) -> ObserverSet:
    return ObserverSet([Component(name=name) for name in names], rank=rank)


def live(watching: ObserverSet, tmp_path: Path) -> None:
    watching.run_start(tmp_path, a_recipe(), "train", total_steps=2)
    watching.step_end(1, {"loss/total": 0.5})
    watching.images(1, "panel/axial", np.ones((2, 3), dtype=np.uint8))
    watching.metric(1, "psnr", 20.0)
    watching.run_end("finished")


def test_every_hook_of_the_specification_is_called_in_order(tmp_path: Path) -> None:
    live(observers("listener"), tmp_path)
    specified = [name for name in vars(ObserverSpec) if name.startswith("voxella_")]
    assert [hook for hook, _ in HEARD] == specified
    heard = dict(HEARD)
    assert heard["voxella_run_start"]["first_step"] == 0
    assert heard["voxella_step_end"]["scalars"] == {"loss/total": 0.5}
    assert heard["voxella_images"]["image"].shape == (2, 3)
    assert heard["voxella_metric"]["value"] == 20.0
    assert heard["voxella_run_end"]["status"] == "finished"


def test_only_rank_0_is_watched(tmp_path: Path) -> None:
    live(observers("listener", rank=1), tmp_path)
    assert HEARD == []


def test_one_that_raises_is_told_once_and_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watching = observers("vandal", "listener")
    live(watching, tmp_path)
    watching.step_end(2, {"loss/total": 0.4})
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "observers[0]: vandal: voxella_step_end raised TypeError" in told
    assert "the run goes on" in told
    assert [hook for hook, _ in HEARD].count("voxella_step_end") == 2


def test_nothing_that_is_handed_over_can_be_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scalars, image = {"loss/total": 0.5}, np.ones((2, 3), dtype=np.uint8)
    observers("vandal").step_end(1, scalars)
    observers("vandal").images(1, "panel", image)
    assert scalars == {"loss/total": 0.5}
    assert image.all()
    assert "read-only" in capsys.readouterr().err


def test_a_misspelt_hook_is_refused_before_the_run() -> None:
    with pytest.raises(UserError) as caught:
        observers("typist")
    message = str(caught.value)
    assert "observers[0]: typist: no hook 'voxella_step_done'" in message
    assert "voxella_step_end" in message


def test_an_unknown_observer_is_refused_before_the_run() -> None:
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        observers("tensorbord")
