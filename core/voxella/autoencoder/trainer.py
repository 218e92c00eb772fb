"""One training run of an autoencoder: its state, its step, its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.load import build_autoencoder, fingerprint
from voxella.autoencoder.losses import Adversary, autoencoder_losses, check_edges
from voxella.autoencoder.patches import Patches
from voxella.data.volumes import PreparedVolumes
from voxella.engine.checkpoint_store import CheckpointStore, Marker
from voxella.engine.order import Visit
from voxella.engine.precision import lacks
from voxella.engine.saved_state import read_state, write_state
from voxella.errors import UserError
from voxella.files import remove
from voxella.plugins.contracts import Autoencoder
from voxella.progress import Steps, say
from voxella.recipe.model import AutoencoderTraining, Recipe
from voxella.stopping import Interrupted, held_back, requested

__all__ = ["OnStep", "Trainer", "check_precision"]

_CLIP_NORM = 1.0
_STATE = "state.pt"

OnStep = Callable[[int, Mapping[str, float]], None]


def check_precision(training: AutoencoderTraining, device: torch.device) -> None:
    """Refuse bfloat16 on a device that has none.

    Raises:
        UserError: Naming the device.
    """
    name = lacks(device, "bfloat16") if training.precision == "bf16" else None
    if name is not None:
        raise UserError(
            f"autoencoder_training.precision is bf16, which {name} cannot compute in",
            remedy="--set autoencoder_training.precision=fp32",
        )


class Trainer:
    """The networks, their optimizers and the step.

    All that is random is a function of (seed, case, visit), the learning rate of the step, so a
    resumed run equals an uninterrupted one bit for bit.

    Args:
        recipe: The experiment.
        training: Its ``autoencoder_training`` block.
        volumes: The prepared data set.
        device: Where to compute.

    Attributes:
        inputs: All that decides the trained weights, as JSON-ready data.
        step: Optimizer steps done.
        history: Losses every ``log_every`` steps.

    Raises:
        UserError: There is no training case, volumes or patches do not suit the networks, or the
            device does not compute in the precision.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: AutoencoderTraining,
        volumes: PreparedVolumes,
        device: torch.device,
    ) -> None:
        check_precision(training, device)
        self.recipe, self.training, self.volumes, self.device = recipe, training, volumes, device
        # Its initial weights are those of a file where the recipe's autoencoder block names one.
        self.model: Autoencoder = build_autoencoder(recipe)
        self.module = cast("nn.Module", self.model)
        self.patches = Patches(training, volumes, self.model.factor, recipe.seed)
        self.inputs = {
            "prepared": volumes.fingerprint,
            "initial_weights": fingerprint(recipe, self.module),
            "training": training.model_dump(mode="json"),
            "whole_steps": self.patches.whole_steps,
            "seed": recipe.seed,
        }
        self.module.to(device).train()
        # fused: 6.9 times faster than the default on a CPU, equal to 2e-7.
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=training.lr, weight_decay=0.0, fused=True
        )
        self.adversary = self._adversary()
        self.step = 0
        self.history: list[dict[str, float]] = []

    def resume(self, store: CheckpointStore, key: str) -> None:
        """Take up the newest sound checkpoint; those of another recipe or data set are removed."""
        try:
            found = store.newest(partial(_refuse_other, key))
        except _OtherTraining:
            say("train-autoencoder: the checkpoint is of other settings or data; starting anew")
            remove(store.folder)
            return
        if found is None:
            return
        folder = store.path(found.step)
        remedy = f"rm -r {folder} to go on from the one before it"
        saved = read_state(folder / _STATE, remedy=remedy)
        self.module.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.adversary is not None:
            self.adversary.load(saved["adversary"])
        self.step, self.history = saved["step"], saved["history"]
        say(f"train-autoencoder: going on after step {self.step}")

    def save(self, store: CheckpointStore, key: str) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "step": self.step,
            "history": self.history,
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "adversary": None if self.adversary is None else self.adversary.state(),
        }
        begun = store.begin(self.step)
        path = begun / _STATE
        store.finish(begun, self.step, {"key": key}, {path: write_state(path, state)})

    @held_back()
    def train(self, store: CheckpointStore, key: str, every: int, on_step: OnStep | None) -> None:
        """Run to the last step.

        Raises:
            Interrupted: A signal has asked to stop; a checkpoint is written.
        """
        total = self.training.steps
        with Steps("train-autoencoder", total, first=self.step) as progress:
            while self.step < total:
                losses = self._update()
                self.step += 1
                if self.step % self.training.log_every == 0 or self.step == total:
                    self.history.append({"step": self.step, **losses})
                stop = requested()
                if self.step % every == 0 or self.step == total or stop:
                    self.save(store, key)
                progress.advance(f"loss {losses['loss']:.4f}")
                if on_step is not None:
                    on_step(self.step, losses)
                if stop:
                    raise Interrupted(stop, str(store.path(self.step)))

    def _update(self) -> dict[str, float]:
        """Take one step of the autoencoder, then one of the discriminator; return the losses."""
        visits, images = self.patches.at(self.step)
        images = images.to(self.device)
        losses, given_back = self._losses(visits, images)
        self._descend(self.module, self.optimizer, losses["loss"], visits)
        if (adversary := self._active()) is not None:
            with self._autocast():
                told = adversary.discriminator_loss(images, given_back)
            self._descend(adversary.network, adversary.optimizer, told, visits)
            losses["discriminator"] = told
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, visits: Sequence[Visit], images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        with self._autocast():
            mean, log_sigma = (part.float() for part in self.model.encode(images))
            eps = self.patches.noise(visits, mean.shape[1:]).to(self.device)
            given_back = self.model.decode(mean + log_sigma.exp() * eps).float()
        losses = autoencoder_losses(self.training, images, given_back, mean, log_sigma)
        if (adversary := self._active()) is not None:
            with self._autocast():
                losses["adversarial"] = adversary.generator_loss(given_back)
            weight = adversary.settings.weight
            losses["loss"] = losses["loss"] + weight * losses["adversarial"]
        return losses, given_back

    def _descend(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        visits: Sequence[Visit],
    ) -> None:
        """Take one optimizer step at this step's learning rate."""
        if not bool(torch.isfinite(loss)):
            cases = ", ".join(visit.case_id for visit in visits)
            raise UserError(
                f"train-autoencoder: the loss is {float(loss.detach())} at step {self.step + 1}, "
                f"cases {cases}",
                remedy="look at these cases, or lower autoencoder_training.lr; "
                "the last checkpoint is kept",
            )
        for group in optimizer.param_groups:
            group["lr"] = self.patches.rate(self.step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(module.parameters(), _CLIP_NORM)
        optimizer.step()

    def _autocast(self) -> torch.autocast:
        # bfloat16 has the range of float32: no loss needs to be scaled.
        enabled = self.training.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def _active(self) -> Adversary | None:
        """Return the discriminator once its turn has come."""
        adversary = self.adversary
        return adversary if adversary and self.step >= adversary.settings.from_step else None

    def _adversary(self) -> Adversary | None:
        if (settings := self.training.adversarial) is None:
            return None
        check_edges(settings, self.patches.size)
        return Adversary(
            settings,
            spatial_dims=len(self.patches.shape),
            in_channels=len(self.recipe.data.sequences),
            lr=self.training.lr,
            seed=self.recipe.seed,
            device=self.device,
        )


class _OtherTraining(Exception):
    """A checkpoint is of other settings or data."""


def _refuse_other(key: str, path: Path, marker: Marker) -> None:
    if marker.facts.get("key") != key:
        raise _OtherTraining
