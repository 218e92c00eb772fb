"""What a study will cost, before anything is run: steps, GPU hours, memory, disk.

Left out, and said so where it is shown: importing, preparing, the text encoder, validation,
features of the evaluation; in memory, what libraries keep for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from voxella.forecast.devices import Speed
from voxella.forecast.flops import Counted, count_autoencoder, count_classifier, count_model
from voxella.forecast.sizes import (
    Cases,
    activation_bytes,
    classifier_steps,
    count_cases,
    gpu_bytes,
    run_bytes,
    sampled,
    steps_of,
    work_bytes,
)
from voxella.recipe.model import Recipe
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
        work: Bytes of the shared workspace by folder.
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


def forecast(plan: Plan, speed: Speed, *, cases: int | None = None, processes: int = 1) -> Forecast:
    """Reckon with a study; nothing is run and nothing is written.

    Args:
        plan: The study.
        speed: Of the device.
        cases: Training cases to reckon with; None: what the data say.
        processes: GPUs that share a model.

    Raises:
        UserError: A data set that is named is not there, or a batch cannot be cut among so many.
    """
    shared = next((s.recipe for s in plan.steps if s.recipe.text), plan.steps[0].recipe)
    known = count_cases(shared, cases)
    coder = count_autoencoder(shared)
    return Forecast(
        known,
        speed,
        processes,
        work_bytes(shared, known),
        _work_flop(shared, known, coder),
        [_of(step, known, coder, processes) for step in plan.steps],
    )


def _work_flop(recipe: Recipe, cases: Cases, coder: tuple[int, int] | None) -> float | None:
    if coder is None:
        return None
    encode, decode = coder
    whole = float(cases.all * encode)
    if (training := recipe.autoencoder_training) is not None:
        # Backward is about twice forward.
        whole += 3.0 * training.steps * training.batch_size * (encode + decode)
    return whole


def _of(step: Step, cases: Cases, coder: tuple[int, int] | None, processes: int) -> StepForecast:
    if step.until == "classify":
        return _classifier(step, cases, processes)
    recipe, counted = step.recipe, count_model(step.recipe)
    steps, volumes = steps_of(recipe, cases), sampled(recipe, cases)
    train = sample = None
    if counted is not None:
        train = float(steps * int(recipe.deepspeed["train_batch_size"]) * counted.train)
        if coder is not None:
            guided = 2 if recipe.sample.guidance != 1.0 else 1
            sample = float(volumes * (recipe.sample.steps * guided * counted.forward + coder[1]))
    parameters = None if counted is None else counted.parameters
    return StepForecast(
        step,
        parameters,
        steps,
        volumes,
        train,
        sample,
        None if counted is None else _memory(recipe, counted, processes),
        run_bytes(recipe, parameters or 0, volumes),
    )


def _memory(recipe: Recipe, counted: Counted, processes: int) -> int:
    states = gpu_bytes(recipe, counted.parameters, processes)
    return states + activation_bytes(recipe.deepspeed, counted.activations, processes)


def _classifier(step: Step, cases: Cases, processes: int) -> StepForecast:
    recipe, counted = step.recipe, count_classifier(step.recipe)
    settings = recipe.classify
    assert settings is not None, "the plan has looked"
    # Whatever else is sampled, it learns from twins of training cases.
    steps = classifier_steps(settings, cases, sampled(recipe, cases, ("train",)))
    if counted is None:
        return StepForecast(step, None, steps, 0, None, None, None, 0)
    # Its own lengths and its own DeepSpeed block, in the places of the generator's.
    own = recipe.model_copy(update={"train": settings.train, "deepspeed": settings.deepspeed})
    batch = int(settings.deepspeed["train_batch_size"])
    return StepForecast(
        step,
        counted.parameters,
        steps,
        0,
        float(steps * batch * counted.train),
        0.0,
        _memory(own, counted, processes),
        run_bytes(own, counted.parameters, 0) * settings.seeds,
    )
