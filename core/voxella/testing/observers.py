"""What every observer has to hold."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from voxella.observers.specs import ObserverSpec
from voxella.plugins.component import Component
from voxella.plugins.registry import checked_manager
from voxella.recipe.model import AutoencoderBlock, Recipe, Train
from voxella.testing.contract import Contract

__all__ = ["ObserverContract"]


class ObserverContract(Contract):
    """A whole run's hooks, fresh and resumed, finished and failed, without touching anything."""

    kind: ClassVar[str] = "observers"

    def live(self, run_dir: Path, *, first_step: int = 0, status: str = "finished") -> None:
        """Call every hook in a run's order, as the engine does."""
        observer = self.build()
        hook = checked_manager(ObserverSpec, observer, who=f"observers: {self.plugin}").hook
        last = first_step + 3
        hook.voxella_run_start(
            run_dir=run_dir,
            recipe=a_recipe(),
            stage="train",
            total_steps=last,
            first_step=first_step,
        )
        for step in range(first_step + 1, last + 1):
            hook.voxella_step_end(step=step, scalars=scalars(step))
        hook.voxella_images(step=last, name="panel/axial", image=picture())
        colours = np.stack([picture(), picture()[::-1], picture().T.reshape(6, 8)], axis=-1)
        hook.voxella_images(step=last, name="panel/colours", image=colours)
        hook.voxella_metric(step=last, name="validation/psnr", value=21.5)
        hook.voxella_run_end(status=status)

    def test_hooks_are_known(self) -> None:
        """It implements at least one hook, and none that does not exist."""
        observer = self.build()
        manager = checked_manager(ObserverSpec, observer, who=f"observers: {self.plugin}")
        assert manager.get_hookcallers(observer), (
            "what the builder returned has no @hookimpl method, so it would never be called"
        )

    def test_lives_through_a_run(self) -> None:
        """It takes every hook of a fresh run and of a resumed one."""
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            self.live(Path(folder))
            self.live(Path(folder), first_step=3)

    def test_lives_through_a_failure(self) -> None:
        """It takes the end of a run that failed or was interrupted, even before any step."""
        for status in ("failed", "interrupted"):
            with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
                self.live(Path(folder), status=status)

    def test_draws_no_random_number(self) -> None:
        """A run has to be the same with and without it: generators stay where they are."""
        # A thread of something else may draw meanwhile; one that draws itself does so every time.
        assert any(self._leaves_generators() for _ in range(3)), (
            "it drew from the global random generators"
        )

    def _leaves_generators(self) -> bool:
        with tempfile.TemporaryDirectory(prefix="voxella-contract-") as folder:
            self.build()
            before = generators()
            self.live(Path(folder))
            # `live` seeds torch when it builds, to the same value as the build before.
            return generators() == before


def a_recipe() -> Recipe:
    """Return a recipe that says as little as a recipe can."""
    return Recipe(
        name="contract",
        autoencoder=AutoencoderBlock(name="kl"),
        conditioner=Component(name="none"),
        backbone=Component(name="maisi_unet"),
        train=Train(steps=3),
        deepspeed={"train_batch_size": 1},
    )


def scalars(step: int) -> Mapping[str, float]:
    """Return the scalars of one step, one of them not a number, as a bad step has it."""
    return {
        "loss/total": 1.0 / step,
        "loss/reconstruction": float("nan"),
        "lr": 1e-4,
        "grad_norm": 0.5,
        "cases_per_second": 2.0,
    }


def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a small gradient, uint8 ``(H, W)``."""
    return np.arange(48, dtype=np.uint8).reshape(6, 8)


def generators() -> tuple[object, ...]:
    """Return the states of the global random generators, comparable."""
    numpy_state = np.random.get_state()[1]  # type: ignore[index] # the legacy form is a tuple
    return (random.getstate(), np.asarray(numpy_state).tobytes(), bytes(torch.get_rng_state()))
