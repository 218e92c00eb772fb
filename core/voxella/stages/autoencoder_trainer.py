"""One training run of an autoencoder: its state, its step, its checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from voxella.diffusion.noise import seeded_noise, seeded_uniform
from voxella.engine.order import Order, Visit
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.plugins.contracts import Autoencoder
from voxella.progress import Steps, say
from voxella.recipe.model import AutoencoderTraining, Recipe
from voxella.stages.autoencoder_loss import gradient_l1, kl_per_voxel
from voxella.stages.autoencoder_model import build_autoencoder, fingerprint
from voxella.stages.volumes import PreparedVolumes

__all__ = ["OnStep", "Trainer"]

_WARMUP_SHARE = 0.05
_CLIP_NORM = 1.0
# Group norms see other statistics in a patch than in a whole volume. Measured on 64 x 64 x 32
# phantoms: 450 steps on 16 x 16 x 8 patches gave 15.3 dB on whole volumes, 50 more on whole ones
# 19.2 dB; whole volumes alone 16.5 dB for about the same time. So the last tenth of the steps is
# spent on whole volumes, where they are small enough to be trained on.
_WHOLE_SHARE = 0.1
_WHOLE_VOXELS = 2**18
_WHOLE_RATE = 1 / 3

OnStep = Callable[[int, Mapping[str, float]], None]


class Trainer:
    """The network, the optimizer and the step.

    Patches and noise are functions of (seed, case, visit), the learning rate of the step, so a
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
        shape: Of the volumes, ``(*spatial)``.
        whole_steps: Steps at the end that a training on patches spends on whole volumes.

    Raises:
        UserError: There is no training case, or volumes or patches do not suit the network.
    """

    def __init__(
        self,
        recipe: Recipe,
        training: AutoencoderTraining,
        volumes: PreparedVolumes,
        device: torch.device,
    ) -> None:
        self.recipe, self.training, self.volumes, self.device = recipe, training, volumes, device
        self.model: Autoencoder = build_autoencoder(recipe)
        self.module = cast("nn.Module", self.model)
        cases = volumes.ids_of("train")
        self.shape = _check_shapes(volumes, cases, training, self.model.factor)
        on_patches = training.patch_size is not None and math.prod(self.shape) <= _WHOLE_VOXELS
        self.whole_steps = math.ceil(_WHOLE_SHARE * training.steps) if on_patches else 0
        self.inputs = {
            "prepared": volumes.fingerprint,
            "initial_weights": fingerprint(recipe, self.module),
            "training": training.model_dump(mode="json"),
            "whole_steps": self.whole_steps,
            "seed": recipe.seed,
        }
        self.module.to(device).train()
        self.order = Order(cases, seed=recipe.seed, batch_size=training.batch_size)
        # fused: 6.9 times faster than the default on a CPU, equal to 2e-7.
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=training.lr, weight_decay=0.0, fused=True
        )
        self.step = 0
        self.history: list[dict[str, float]] = []

    def resume(self, path: Path, key: str) -> None:
        """Take up a checkpoint of the same run; one of another recipe or data set is ignored."""
        if not path.is_file():
            return
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["key"] != key:
            say("train-autoencoder: the checkpoint is of other settings or data; starting anew")
            return
        self.module.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.history = saved["step"], saved["history"]
        say(f"train-autoencoder: going on after step {self.step}")

    def save(self, path: Path, key: str) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {
            "key": key,
            "step": self.step,
            "history": self.history,
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def train(self, path: Path, key: str, every: int, on_step: OnStep | None) -> None:
        """Run to the last step."""
        total = self.training.steps
        with Steps("train-autoencoder", total, first=self.step) as progress:
            while self.step < total:
                losses = self._update(self.order.step(self.step))
                self.step += 1
                if self.step % self.training.log_every == 0 or self.step == total:
                    self.history.append({"step": self.step, **losses})
                if self.step % every == 0 or self.step == total:
                    self.save(path, key)
                progress.advance(f"loss {losses['loss']:.4f}")
                if on_step is not None:
                    on_step(self.step, losses)

    def _update(self, visits: Sequence[Visit]) -> dict[str, float]:
        """Take one optimizer step on these visits and return its losses."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.training.lr * _rate(self.step, self.training.steps, self.whole_steps)
        losses = self._losses(visits)
        measured = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(measured["loss"]):
            cases = ", ".join(visit.case_id for visit in visits)
            raise UserError(
                f"train-autoencoder: the loss is {measured['loss']} at step {self.step + 1}, "
                f"cases {cases}",
                remedy="look at these cases, or lower autoencoder_training.lr; "
                "the last checkpoint is kept",
            )
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.module.parameters(), _CLIP_NORM)
        self.optimizer.step()
        return measured

    def _losses(self, visits: Sequence[Visit]) -> dict[str, Tensor]:
        size = self.training.patch_size
        if size is not None and self.step >= self.training.steps - self.whole_steps:
            # As many volumes as make up the voxels of the patches, one at least.
            share = math.prod(size) / math.prod(self.shape)
            visits, size = visits[: max(1, round(len(visits) * share))], None
        images = torch.stack([self._image(visit, size) for visit in visits]).to(self.device)
        mean, log_sigma = self.model.encode(images)  # (B, L, *spatial / factor)
        eps = torch.stack([self._noise(visit, mean.shape[1:]) for visit in visits])
        given_back = self.model.decode(mean + log_sigma.exp() * eps.to(self.device))
        losses = {"l1": (given_back - images).abs().mean(), "kl": kl_per_voxel(mean, log_sigma)}
        total = losses["l1"] + self.training.kl_weight * losses["kl"]
        if self.training.gradient_weight > 0:
            losses["gradient"] = gradient_l1(given_back, images)
            total = total + self.training.gradient_weight * losses["gradient"]
        return {"loss": total, **losses}

    def _noise(self, visit: Visit, shape: Sequence[int]) -> Tensor:
        return seeded_noise(
            shape,
            seed=self.recipe.seed,
            case_id=visit.case_id,
            step=visit.epoch,
            purpose="autoencoder",
        )

    def _image(self, visit: Visit, size: Sequence[int] | None) -> Tensor:
        """Return a case's volume, or the patch of this size that the visit sees."""
        volume = self.volumes.read(visit.case_id)
        if size is None:
            return volume
        draws = seeded_uniform(
            (len(size),),
            seed=self.recipe.seed,
            case_id=visit.case_id,
            step=visit.epoch,
            purpose="patch",
        ).tolist()
        for axis, (width, draw) in enumerate(zip(size, draws, strict=True), start=1):
            start = int(draw * (volume.shape[axis] - width + 1))
            volume = volume.narrow(axis, start, width)
        return volume


def _rate(step: int, steps: int, whole_steps: int) -> float:
    """Return the factor on the learning rate: a short linear warm-up, then a cosine to 0.

    The steps on whole volumes that end a training on patches go through it once more, lower. A
    function of the step alone, so a resumed run needs no scheduler's state.
    """
    if whole_steps and step >= steps - whole_steps:
        return _WHOLE_RATE * _rate(step - (steps - whole_steps), whole_steps, 0)
    steps -= whole_steps
    warmup = max(1, round(_WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _check_shapes(
    volumes: PreparedVolumes, cases: Sequence[str], training: AutoencoderTraining, factor: int
) -> tuple[int, ...]:
    """Refuse sizes that the autoencoder cannot halve, or patches that do not fit.

    Returns:
        The volumes' shape, ``(*spatial)``.
    """
    if not cases:
        raise UserError(
            f"{volumes.folder} has no training case",
            remedy="give cases the split `train` in the manifest",
        )
    shape = tuple(volumes.read(cases[0]).shape[1:])
    size = shape if training.patch_size is None else tuple(training.patch_size)
    name = "prepare.size" if training.patch_size is None else "autoencoder_training.patch_size"
    told = f"{name} {list(size)}: "
    problems = []
    if len(size) != len(shape):
        problems.append(f"{told}the volumes have {len(shape)} axes")
    elif any(width > whole for width, whole in zip(size, shape, strict=True)):
        problems.append(f"{told}larger than the volumes, {list(shape)}")
    if any(width % factor for width in size):
        problems.append(f"{told}not divisible by the autoencoder's factor {factor}")
    if problems:
        raise UserError("\n".join(problems), legal=f"multiples of {factor} up to {list(shape)}")
    return shape
