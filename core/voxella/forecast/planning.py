"""The plan of one recipe: what it costs on a card, which settings fit, days on every card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from voxella.errors import UserError
from voxella.forecast.cards import Card, Cards
from voxella.forecast.devices import Speed, find_speed
from voxella.forecast.fit import Setting, choose, every_setting
from voxella.forecast.flops import Counted, count_model
from voxella.forecast.forecast import Forecast, forecast
from voxella.forecast.live import StepMemory, Tracing
from voxella.study.plan import Plan, Step

__all__ = ["CardPlan", "Days", "Machine", "RecipePlan", "plan_recipe"]

_GIB = 2**30
_FLOAT = 4
# Volumes at a time beyond which a sampling step gains nothing.
_MOST_SAMPLED = 16


@dataclass(frozen=True)
class Machine:
    """What a plan is made for.

    Attributes:
        card: The card; of this machine's memory where that is asked for.
        gpus: How many share the training.
        cards: The table it is in.
        bench: Folder of measured speeds.
    """

    card: Card
    gpus: int
    cards: Cards
    bench: Path

    @property
    def usable(self) -> int:
        """Return the bytes that tensors can fill on one card."""
        return self.cards.usable_bytes(self.card.memory_gib)

    @property
    def told(self) -> str:
        """Return it in words."""
        return f"{self.gpus} x {self.card.name} of {self.card.memory_gib:g} GiB"


@dataclass(frozen=True)
class CardPlan:
    """What a card of the table makes of the recipe.

    Attributes:
        card: The card.
        speed: Its speed.
        setting: The first that fits; None: none does.
    """

    card: Card
    speed: Speed
    setting: Setting | None


@dataclass(frozen=True)
class Days:
    """How long it takes; None where operations cannot be counted.

    Attributes:
        train: Days of training.
        sample: Days of sampling and decoding.
        all: Of both, of encoding, and of the classifier where the recipe has one.
    """

    train: float | None
    sample: float | None
    all: float | None


@dataclass(frozen=True)
class RecipePlan:
    """The plan.

    Attributes:
        step: The recipe.
        machine: What it is for.
        counted: The model by whether activations are computed again.
        settings: All, on the machine.
        chosen: The one proposed.
        sample_batch: Volumes at a time that fit beside the weights while denoising.
        found: Operations, steps, disk, for the machine's card.
        every_card: The same model on each card of the table.
    """

    step: Step
    machine: Machine
    counted: Mapping[bool, Counted]
    settings: tuple[Setting, ...]
    chosen: Setting
    sample_batch: int
    found: Forecast
    every_card: tuple[CardPlan, ...]

    def days(self, speed: Speed, setting: Setting) -> Days:
        """Return the days on the machine's number of cards of a speed."""
        share = self.machine.cards.assumptions.scaling_share if self.machine.gpus > 1 else 1.0
        a_day = self.machine.gpus * share * 86400 * 1e12
        first, *later = self.found.steps
        # The forecast counts the recipe's own checkpointing.
        own = self.counted[self.step.recipe.train.gradient_checkpointing].train
        again = self.counted[setting.checkpointing].train / own
        train = None if first.train_flop is None else first.train_flop * again / speed.train / a_day
        sample = None if first.sample_flop is None else first.sample_flop / speed.sample / a_day
        rest = [(self.found.work_flop, speed.sample)]
        for step in later:
            rest += [(step.train_flop, speed.train), (step.sample_flop, speed.sample)]
        parts = [train, sample, *(None if f is None else f / rate / a_day for f, rate in rest)]
        known = [part for part in parts if part is not None]
        return Days(train, sample, sum(known) if len(known) == len(parts) else None)


def plan_recipe(
    plan: Plan, machine: Machine, *, cases: int | None, say: Callable[[str], None]
) -> RecipePlan:
    """Plan the first recipe of a study, which may be its only one; nothing is run or written.

    Args:
        plan: The study.
        machine: What to plan for.
        cases: Training cases; None: what the data say.
        say: Told what is being counted, which takes seconds.

    Raises:
        UserError: Nothing fits, the model cannot be counted, or the batch cannot be cut.
    """
    step = plan.steps[0]
    say(f"counting the operations and the memory of {step.name}")
    counted, memories = _counted(step)
    settings = _settings_on(step, counted[False], memories, machine.gpus, machine.usable)
    chosen = choose(settings, machine.told)
    speed = find_speed(machine.card.name, machine.bench, machine.cards, option="--card")
    found = forecast(plan, speed, cases=cases, memory=False)
    return RecipePlan(
        step,
        machine,
        counted,
        tuple(settings),
        chosen,
        _sample_batch(step, counted[False], machine.usable),
        found,
        tuple(_on(card, step, counted[False], memories, machine) for card in _cards(machine)),
    )


def _settings_on(
    step: Step,
    counted: Counted,
    memories: Mapping[bool, StepMemory],
    gpus: int,
    usable: int,
) -> list[Setting]:
    """Return all settings of a recipe's training on so many cards of so much memory."""
    averaged = step.recipe.train.ema_decay is not None
    return every_setting(
        step.recipe.deepspeed, counted.parameters, gpus, memories, usable, averaged=averaged
    )


def _counted(step: Step) -> tuple[dict[bool, Counted], dict[bool, StepMemory]]:
    counted: dict[bool, Counted] = {}
    memories: dict[bool, StepMemory] = {}
    for again in (False, True):
        train = step.recipe.train.model_copy(update={"gradient_checkpointing": again})
        recipe = step.recipe.model_copy(update={"train": train})
        flops, memory = count_model(recipe), Tracing(recipe).training()
        if flops is None or memory is None:
            raise UserError(
                f"the model of {step.name} cannot be counted without running it",
                expected="plugins whose layers work on torch's meta device and fake tensors",
            )
        counted[again], memories[again] = flops, memory
    return counted, memories


def _sample_batch(step: Step, counted: Counted, usable: int) -> int:
    """Return how many volumes fit at a time; guidance takes two forward passes of each as one."""
    line = Tracing(step.recipe).sampling()
    if line is None:
        return 1
    fixed, case = line
    case *= 2 if step.recipe.sample.guidance != 1.0 else 1
    left = usable - _FLOAT * counted.parameters - fixed
    return int(min(_MOST_SAMPLED, max(1, left // max(1, case))))


def _cards(machine: Machine) -> list[Card]:
    return list(machine.cards.cards.values())


def _on(
    card: Card, step: Step, counted: Counted, memories: Mapping[bool, StepMemory], machine: Machine
) -> CardPlan:
    usable = machine.cards.usable_bytes(card.memory_gib)
    settings = _settings_on(step, counted, memories, machine.gpus, usable)
    fitting = [setting for setting in settings if setting.micro_batch is not None]
    speed = find_speed(card.name, machine.bench, machine.cards, option="--card")
    return CardPlan(card, speed, fitting[0] if fitting else None)
