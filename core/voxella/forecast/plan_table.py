"""A recipe's plan on the terminal."""

from __future__ import annotations

from rich.table import Table

from voxella.forecast.fit import Setting
from voxella.forecast.planning import Days, RecipePlan
from voxella.progress import print_line
from voxella.terminal import make_console
from voxella.wording import human_bytes

__all__ = ["assumptions_of", "described", "show_plan"]

_GIB = 2**30
_UNKNOWN = "?"


def show_plan(plan: RecipePlan) -> None:
    """Print the model's size, what fits the machine, what each card would take, and why."""
    counted, found = plan.counted[False], plan.found
    print_line(
        f"{plan.step.name}: {counted.parameters:,} parameters; a case takes "
        f"{counted.forward / 1e12:.3g} TFLOP forward, {counted.train / 1e12:.3g} to train on, "
        f"{plan.counted[True].train / 1e12:.3g} where activations are computed again"
    )
    first = found.steps[0]
    print_line(
        f"{found.cases.train} cases to train on of {found.cases.all} ({found.cases.basis}); "
        f"{first.steps:,} steps, {first.volumes:,} volumes; disk {human_bytes(found.disk_bytes)}"
    )
    console = make_console(width=max(110, make_console().width))
    console.print(_settings(plan))
    console.print(_cards(plan))
    for line in assumptions_of(plan):
        print_line(f"  {line}")
    print_line(f"proposed for {plan.machine.told}: {described(plan.chosen)}")
    print_line(f"  sample.batch_size {plan.sample_batch}; {_last(plan)}")


def described(setting: Setting) -> str:
    """Return a setting in words."""
    parts = [f"ZeRO {setting.stage}"]
    parts += ["optimizer in host memory"] if setting.offload else []
    parts += ["activations computed again"] if setting.checkpointing else []
    cases = "" if setting.micro_batch is None else f", {setting.micro_batch} cases at a time"
    return f"{', '.join(parts)}{cases}, {setting.peak_bytes / _GIB:.1f} GiB of tensors"


def assumptions_of(plan: RecipePlan) -> list[str]:
    """Return what is assumed, one line each; the written profile repeats them."""
    own, machine = plan.machine.cards.assumptions, plan.machine
    return [
        *plan.found.speed.basis,
        f"memory for tensors on {machine.card.name}: {machine.usable / _GIB:.1f} GiB = "
        f"({machine.card.memory_gib:g} - {own.reserved_gib:g} for driver and libraries) x "
        f"{own.usable_share:g} (ASSUMED)",
        f"{machine.gpus} cards reach {own.scaling_share:g} of {machine.gpus} times the speed "
        "(ASSUMED)"
        if machine.gpus > 1
        else "one card: nothing is sent",
        f"cards: {machine.cards.source}; your own: --cards FILE",
        "not in the estimate: importing, preparing, the text encoder, validation, features of the "
        "evaluation",
    ]


def _settings(plan: RecipePlan) -> Table:
    title = f"on each of {plan.machine.told}"
    table = Table(title=title, title_justify="left")
    for number, head in enumerate(
        ("ZeRO", "activations", "micro batch", "tensors, GiB", "host, GiB", "train, days")
    ):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=True)
    for setting in plan.settings:
        fits = setting.micro_batch is not None
        length = plan.days(plan.found.speed, setting).train
        table.add_row(
            f"{setting.stage}{', offloaded' if setting.offload else ''}",
            "computed again" if setting.checkpointing else "kept",
            str(setting.micro_batch) if fits else "none fits",
            f"{setting.peak_bytes / _GIB:.1f}",
            f"{setting.host_bytes / _GIB:.1f}" if setting.host_bytes else "",
            # Moments in host memory are as slow as the link, which is not in the table of cards.
            _days(length) if fits and not setting.offload else _UNKNOWN if fits else "",
            style="bold" if setting == plan.chosen else None,
        )
    return table


def _cards(plan: RecipePlan) -> Table:
    table = Table(title=f"on {plan.machine.gpus} of each card, days", title_justify="left")
    for number, head in enumerate(("card", "settings", "train", "sample", "study")):
        table.add_column(head, justify="left" if number < 2 else "right", no_wrap=True)
    for one in plan.every_card:
        if one.setting is None:
            table.add_row(one.card.name, "nothing fits", "", "", "")
            continue
        length = (
            Days(None, None, None) if one.setting.offload else plan.days(one.speed, one.setting)
        )
        told = (length.train, length.sample, length.all)
        table.add_row(one.card.name, described(one.setting), *(_days(part) for part in told))
    return table


def _last(plan: RecipePlan) -> str:
    length = plan.days(plan.found.speed, plan.chosen)
    return (
        f"{_days(length.train)} days of training, {_days(length.sample)} of sampling, "
        f"{_days(length.all)} in all"
    )


def _days(length: float | None) -> str:
    if length is None:
        return _UNKNOWN
    if length < 0.005:
        return "< 0.01"
    return f"{length:.1f}" if length >= 0.1 else f"{length:.2f}"
