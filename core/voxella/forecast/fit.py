"""Which settings of a training fit a memory, and which of them to take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from voxella.errors import UserError
from voxella.forecast.live import StepMemory
from voxella.forecast.memory import largest_micro_batch, peak_bytes, states, with_micro_batch

__all__ = ["Setting", "choose", "every_setting", "sharded"]

# Part of the ZeRO block that offloads Adam's moments.
_OFFLOAD = {"device": "cpu", "pin_memory": True}


@dataclass(frozen=True)
class Setting:
    """One way to train a model on so many cards.

    Attributes:
        stage: ZeRO's.
        offload: Whether Adam's moments lie in host memory.
        checkpointing: Whether activations are computed again.
        micro_batch: The most cases at a time that fit; None: not even one.
        peak_bytes: On one card, at that micro batch, or at 1 where none fits.
        host_bytes: Of one process in host memory.
    """

    stage: int
    offload: bool
    checkpointing: bool
    micro_batch: int | None
    peak_bytes: int
    host_bytes: int


def sharded(block: Mapping[str, Any], stage: int, *, offload: bool) -> dict[str, Any]:
    """Return a ``deepspeed`` block at another ZeRO stage, its other keys as they are."""
    zero = {
        key: value
        for key, value in (block.get("zero_optimization") or {}).items()
        if key not in ("offload_optimizer", "offload_param")
    }
    zero["stage"] = stage
    if offload:
        zero["offload_optimizer"] = dict(_OFFLOAD)
    return {**block, "zero_optimization": zero}


def every_setting(
    block: Mapping[str, Any],
    parameters: int,
    processes: int,
    steps: Mapping[bool, StepMemory],
    usable: int,
    *,
    averaged: bool,
) -> list[Setting]:
    """Return all settings, from the quickest to the one that takes least memory.

    Computing activations again costs a third more, moments in host memory cost more still, and the
    higher stages send more: so first without checkpointing by rising stage, then with it, then with
    moments offloaded. One process has nobody to share with: stage 0, or offload.

    Args:
        block: The recipe's ``deepspeed`` block.
        parameters: Trained numbers.
        processes: That share the model.
        steps: Activations, by whether they are computed again.
        usable: Bytes that tensors can fill on one card.
        averaged: Whether an average of the weights is kept.

    Raises:
        UserError: The batch does not divide among the processes.
    """
    batch = int(block["train_batch_size"])
    if batch % processes:
        fitting = [n for n in range(1, processes) if batch % n == 0]
        raise UserError(
            f"train_batch_size {batch} does not divide among {processes} cards",
            remedy=f"--gpus {fitting[-1]}, or --set deepspeed.train_batch_size="
            f"{processes * max(1, round(batch / processes))}",
        )
    stages = (0,) if processes == 1 else (0, 1, 2, 3)
    plans = [(stage, False, again) for again in (False, True) for stage in stages]
    plans += [(2, True, True)]
    found = []
    for stage, offload, again in plans:
        own = sharded(block, stage, offload=offload)
        micro = largest_micro_batch(
            own, parameters, processes, steps[again], usable, averaged=averaged
        )
        cut = with_micro_batch(own, micro or 1)
        peak = peak_bytes(cut, parameters, processes, steps[again], averaged=averaged)
        host = states(own, parameters, processes, averaged=averaged).host
        found.append(Setting(stage, offload, again, micro, peak, host))
    return found


def choose(settings: Iterable[Setting], memory: str) -> Setting:
    """Return the first that fits.

    Args:
        settings: From :func:`every_setting`.
        memory: What they had to fit, for the message.

    Raises:
        UserError: None does.
    """
    settings = list(settings)
    for setting in settings:
        if setting.micro_batch is not None:
            return setting
    least = min(settings, key=lambda setting: setting.peak_bytes)
    raise UserError(
        f"nothing fits {memory}: one case at a time, activations computed again and the optimizer "
        f"in host memory still take {least.peak_bytes / 2**30:.1f} GiB",
        expected="a larger card, more cards (--gpus N), or a smaller model or grid "
        "(--set latent.size=..., --set prepare.size=...)",
    )
