"""What a study will cost, before anything is run: steps, GPU hours, memory, disk.

Left out, and said so where it is shown: importing, preparing, the text encoder, validation,
features of the evaluation; in memory, what libraries keep for themselves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxella.autoencoder.load import AutoencoderPlan
from voxella.forecast.devices import Speed
from voxella.forecast.flops import count_autoencoder, count_classifier, count_model
from voxella.forecast.live import Tracing
from voxella.forecast.memory import training_memory
from voxella.forecast.sizes import (
    Cases,
    classifier_steps,
    count_cases,
    sampled,
    samples_bytes,
    steps_of,
    training_bytes,
    voxels_of,
    work_bytes,
)
from voxella.recipe.inputs import Latent
from voxella.recipe.training import AutoencoderTraining
from voxella.study.plan import Plan, Step

__all__ = ["Forecast", "StepForecast", "forecast"]


@dataclass(frozen=True)
class StepForecast:
    """What one recipe will cost.

    Attributes:
        step: The recipe.
        parameters: Trained numbers; None where the network cannot be built without memory.
        steps: Optimizer steps.
        volumes: Volumes that are sampled.
        train_flop: Operations of training.
        sample_flop: Operations of sampling and decoding.
        gpu_bytes: Held by one process while training.
        disk_bytes: Of the run folder, at most.
    """

    step: Step
    parameters: int | None
    steps: int
    volumes: int
    train_flop: float | None
    sample_flop: float | None
    gpu_bytes: int | None
    disk_bytes: int

    def hours(self, speed: Speed) -> float | None:
        """Return the GPU hours; None where operations cannot be counted."""
        if self.train_flop is None or self.sample_flop is None:
            return None
        seconds = self.train_flop / speed.train + self.sample_flop / speed.sample
        return seconds / 1e12 / 3600


@dataclass(frozen=True)
class Forecast:
    """What the study will cost.

    Attributes:
        cases: How many, and how that is known.
        speed: Of the device.
        processes: That share a model.
        work: Bytes of the shared workspaces by folder.
        work_flop: Operations of encoding, and of training the autoencoder in place.
        steps: By recipe, in order.
    """

    cases: Cases
    speed: Speed
    processes: int
    work: dict[str, int]
    work_flop: float | None
    steps: list[StepForecast] = field(default_factory=list)

    @property
    def work_hours(self) -> float | None:
        """Return the GPU hours of the workspace."""
        if self.work_flop is None:
            return None
        return self.work_flop / self.speed.sample / 1e12 / 3600

    @property
    def hours(self) -> float | None:
        """Return all GPU hours; None where a part of them is not known."""
        parts = [self.work_hours, *(step.hours(self.speed) for step in self.steps)]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @property
    def disk_bytes(self) -> int:
        """Return the bytes of workspace and runs together, at most."""
        return sum(self.work.values()) + sum(step.disk_bytes for step in self.steps)


def forecast(
    plan: Plan,
    speed: Speed,
    *,
    cases: int | None = None,
    processes: int = 1,
    memory: bool = True,
) -> Forecast:
    """Estimate what a study takes; nothing is run and nothing is written.

    Args:
        plan: The study.
        speed: Of the device.
        cases: Training cases to estimate for; None: what the data say.
        processes: GPUs that share a model.
        memory: Whether memory is found too, which takes some seconds for each recipe.

    Raises:
        UserError: A data set that is named is not there, or a batch cannot be cut among so many.
    """
    known = count_cases(plan.steps[0].recipe.data, cases)
    coders: dict[Path | None, tuple[int, int] | None] = {}
    work: Counter[str] = Counter()
    flops: list[float | None] = []
    for place in dict.fromkeys(step.recipe.workspace for step in plan.steps):
        here = [step.recipe for step in plan.steps if step.recipe.workspace == place]
        shared = next((recipe for recipe in here if recipe.text), here[0])
        voxels = voxels_of(shared.image_channels, shared.prepare)
        seen = shared.latent.crop or shared.prepare.size
        coders[place] = coder = count_autoencoder(AutoencoderPlan.of(shared), seen)
        work.update(work_bytes(known, voxels, shared.latent, shared.text))
        flops.append(_work_flop(shared.autoencoder_training, shared.latent, known, coder))
    steps: list[StepForecast] = []
    for step in plan.steps:
        # The rows of a sweep have one model.
        same = next((one for one in steps if one.step.folder == step.folder), None)
        coder = coders[step.recipe.workspace]
        found = _of(step, known, coder, processes, memory=memory and same is None)
        steps.append(found if same is None else _sampled_alone(found, same.gpu_bytes))
    counted = [flop for flop in flops if flop is not None]
    whole = sum(counted) if len(counted) == len(flops) else None
    return Forecast(known, speed, processes, dict(work), whole, steps)


def _sampled_alone(step: StepForecast, gpu_bytes: int | None) -> StepForecast:
    """Return the same without what its model costs, which took so much memory."""
    model = training_bytes(step.step.recipe.train, step.parameters or 0)
    train = None if step.train_flop is None else 0.0
    disk = step.disk_bytes - model
    return replace(step, steps=0, train_flop=train, disk_bytes=disk, gpu_bytes=gpu_bytes)


def _work_flop(
    training: AutoencoderTraining | None,
    latent: Latent,
    cases: Cases,
    coder: tuple[int, int] | None,
) -> float | None:
    if coder is None:
        return None
    encode, decode = coder
    whole = float(cases.all * encode) if latent.source == "cached" else 0.0
    if training is not None:
        # Backward is about twice forward.
        whole += 3.0 * training.steps * training.batch_size * (encode + decode)
    return whole


def _of(
    step: Step, cases: Cases, coder: tuple[int, int] | None, processes: int, *, memory: bool
) -> StepForecast:
    if step.until == "classify":
        return _classifier(step, cases, processes)
    if step.until == "check-autoencoder":
        return StepForecast(step, None, 0, 0, 0.0, 0.0, None, 0)
    recipe, counted = step.recipe, count_model(step.recipe)
    batch = int(recipe.deepspeed["train_batch_size"])
    steps = steps_of(recipe.train, cases.train, batch)
    volumes = sampled(recipe.sample, cases)
    train = sample = None
    if counted is not None:
        # Latents that are not cached are encoded at every visit; their scale takes some more.
        again = coder[0] if coder is not None and recipe.latent.source == "online" else 0
        train = float(steps * batch * (counted.train + again) + recipe.latent.scale_cases * again)
        if coder is not None:
            guided = 2 if recipe.sample.guidance != 1.0 else 1
            sample = float(volumes * (recipe.sample.steps * guided * counted.forward + coder[1]))
    parameters = None if counted is None else counted.parameters
    images = samples_bytes(recipe.sample, volumes, voxels_of(recipe.image_channels, recipe.prepare))
    return StepForecast(
        step,
        parameters,
        steps,
        volumes,
        train,
        sample,
        training_memory(
            recipe.train,
            recipe.deepspeed,
            counted if memory else None,
            Tracing(recipe).training() if memory else None,
            processes,
        ),
        training_bytes(recipe.train, parameters or 0) + images,
    )


def _classifier(step: Step, cases: Cases, processes: int) -> StepForecast:
    settings = step.recipe.classify
    assert settings is not None, "the plan has looked"
    counted = count_classifier(settings, step.recipe.image_channels, len(step.recipe.data.classes))
    # Whatever else is sampled, it learns from counterparts of training cases.
    steps = classifier_steps(settings, cases, sampled(step.recipe.sample, cases, ("train",)))
    if counted is None:
        return StepForecast(step, None, steps, 0, None, None, None, 0)
    batch = int(settings.deepspeed["train_batch_size"])
    return StepForecast(
        step,
        counted.parameters,
        steps,
        0,
        float(steps * batch * counted.train),
        0.0,
        training_memory(settings.train, settings.deepspeed, counted, None, processes),
        training_bytes(settings.train, counted.parameters) * settings.seeds,
    )
