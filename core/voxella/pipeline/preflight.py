"""What can be known to be wrong before the first stage, told before hours of preparation.

Copies of a scan in two splits, refused before a model is trained on what it is tested on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxella.autoencoder.load import check_weights_exist
from voxella.autoencoder.settings import check_settings
from voxella.case import Case, Manifest
from voxella.check.catalogue import CATALOGUE
from voxella.check.duplicates import Picture, duplicates
from voxella.diffusion.samplers import make_sampler
from voxella.diffusion.schedule import make_schedule
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.ranks import Ranks
from voxella.recipe.autoencoder import AutoencoderBlock
from voxella.recipe.model import AutoencoderTraining, Diffusion, Sample, Text

__all__ = ["check_encoders", "check_sample_space", "check_training", "refuse_leaks"]


def check_encoders(autoencoder: AutoencoderBlock, text: Text | None, *, trains: bool) -> None:
    """Refuse a recipe whose autoencoder or text encoder names files that are not there.

    Args:
        autoencoder: The recipe's block.
        text: The recipe's block.
        trains: Whether the recipe trains its autoencoder.

    Raises:
        UserError: Naming every absent file, or an autoencoder without weights.
    """
    if not trains:
        check_weights_exist(autoencoder, training=False, trained=None)
    problems = _absent("autoencoder", autoencoder)
    if text is not None:
        problems += _absent("text.encoder", text.encoder)
    if problems:
        raise UserError(
            "\n".join(problems),
            remedy="--set KEY=PATH for each; to see a whole run without them: --profile demo",
        )


def check_sample_space(space: str, reader: str) -> None:
    """Refuse volumes on their scans' grids where the next stage takes them on the prepared one.

    Args:
        space: ``sample.space``: where the samples lie.
        reader: The stage that reads them.

    Raises:
        UserError: They are not on the prepared grid.
    """
    if space != "prepared":
        raise UserError(
            f"sample.space: received {space}, and {reader} takes volumes on the prepared grid",
            expected="prepared; source for `voxella sample` alone, into a run folder of its own",
            remedy="--set sample.space=prepared",
        )


def check_training(
    block: dict[str, Any] | None,
    training: AutoencoderTraining | None,
    diffusion: Diffusion,
    sample: Sample,
    ranks: Ranks,
) -> None:
    """Refuse batch, precision, sharding, schedule or sampler that cannot work, here or at all.

    Args:
        block: The ``deepspeed`` block; None: the model is trained already, or not by this command.
        training: Of the autoencoder; None: likewise.
        diffusion: Says the schedule.
        sample: Says the sampler.
        ranks: This process.

    Raises:
        UserError: Naming all of them at once.
    """
    problems: list[UserError] = []
    if block is not None:
        _gather(problems, lambda: deepspeed_config(block, world=ranks.world, device=ranks.device))
    if training is not None:
        _gather(problems, lambda: check_settings(training, ranks))
    _gather(problems, lambda: _plan(diffusion, sample))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))


def _plan(diffusion: Diffusion, sample: Sample) -> None:
    schedule = make_schedule(
        diffusion.schedule,
        steps=diffusion.steps,
        beta_start=diffusion.beta_start,
        beta_end=diffusion.beta_end,
    )
    make_sampler(sample.sampler, schedule, sample.steps)


def _absent(key: str, component: Component) -> list[str]:
    return [
        f"{key}.{name}: {value} does not exist"
        for name, value in component.arguments.items()
        if isinstance(value, Path) and not value.exists()
    ]


def _gather(problems: list[UserError], check: Callable[[], object]) -> None:
    try:
        check()
    except UserError as problem:
        problems.append(problem)


def refuse_leaks(prepared: Manifest) -> None:
    """Refuse a data set whose splits share a scan, by the rule of `voxella check`.

    Args:
        prepared: The prepared data set; preparing has hashed the voxels of every scan.

    Raises:
        UserError: Naming all copies that stand in two splits.
    """
    pictures = [picture for case in prepared for picture in _pictures(case)]
    leaks = [found for found in duplicates(pictures) if found.severity == "error"]
    if leaks:
        kind = CATALOGUE[leaks[0].code]
        lines = [f"  case {leak.case}: {leak.where}: {leak.message}" for leak in leaks]
        raise UserError("\n".join([f"{kind.meaning} ({kind.code}):", *lines]), remedy=kind.remedy)


def _pictures(case: Case) -> list[Picture]:
    hashes = case.extra.get("voxels_sha256", {})
    return [Picture(case.id, name, case.split, content) for name, content in hashes.items()]
