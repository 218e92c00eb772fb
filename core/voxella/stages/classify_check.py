"""What can be known to be wrong with a classifier before hours of preparation and sampling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from voxella.case import MANIFEST
from voxella.classification.task import build_task
from voxella.engine.ranks import Ranks
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.recipe.classification import Classify
from voxella.recipe.model import Recipe
from voxella.stages.synthetic_sets import check_samples

__all__ = ["check_classify", "samples_folder", "settings_of"]


def settings_of(recipe: Recipe) -> Classify:
    """Return the recipe's ``classify`` block.

    Raises:
        UserError: It has none.
    """
    if recipe.classify is None:
        raise UserError(
            f"recipe {recipe.name} has no classify block",
            legal="recipes/downstream/*.yaml, or a recipe of yours that extends one of them",
        )
    return recipe.classify


def check_classify(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse settings that cannot work, all of them at once, and a network that cannot be built.

    Raises:
        UserError: What is wrong.
    """
    settings = settings_of(recipe)
    problems = list(_problems(recipe, settings))
    try:
        deepspeed_config(settings.deepspeed, world=ranks.world, device=ranks.device)
    except UserError as error:
        problems.append(f"classify.{error.problem}")
    if settings.samples is not None and settings.training_set != "real":
        try:
            # Of a study, the recipe before may still have to make them.
            if _is_there(settings.samples):
                check_samples(recipe, settings.samples, on_grid=False)
        except UserError as error:
            problems.append(f"classify.samples: {error.problem}")
    if problems:
        raise UserError("\n".join(problems))
    try:
        with torch.device("meta"):
            build_task(recipe, recipe.seed)
    except (NotImplementedError, RuntimeError):
        # A plugin that reads a weight while it is built cannot be built so; training will tell.
        return


def samples_folder(settings: Classify, own: Path) -> Path:
    """Return the folder of the synthetic data set that is learnt from.

    Args:
        settings: May name one.
        own: The run's samples.

    Raises:
        UserError: No data set is there.
    """
    folder = settings.samples or own
    if not _is_there(folder):
        inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        raise UserError(
            f"{folder} holds no synthetic data set ({MANIFEST} is absent)",
            legal=f"of a sweep, one of {', '.join(inside)}" if inside else None,
            remedy="voxella sample RECIPE --out RUN, then --set classify.samples=RUN/samples",
        )
    return folder


def _is_there(samples: Path | None) -> bool:
    return samples is not None and (samples / MANIFEST).is_file()


def _problems(recipe: Recipe, settings: Classify) -> Iterator[str]:
    if len(recipe.data.classes) != 2:
        yield (
            f"data.classes has {len(recipe.data.classes)} names; the numbers of a classifier (AUC, "
            "sensitivity, ...) are of two classes, of which the last is the positive one"
        )
    if len(settings.size) != len(recipe.prepare.size):
        yield (
            f"classify.size has {len(settings.size)} axes, prepare.size has "
            f"{len(recipe.prepare.size)}"
        )
    shares = len(settings.augment.translate_shares(len(settings.size)))
    if shares != len(settings.size):
        yield (
            f"classify.augment.translate_share has {shares} numbers, classify.size has "
            f"{len(settings.size)} axes"
        )
    low, high = settings.percentiles
    if not 0 <= low < high <= 100:
        yield f"classify.percentiles: received {low:g}, {high:g}; legal: 0 <= low < high <= 100"
    smallest, largest = settings.augment.zoom
    if not 0 < smallest <= largest:
        yield f"classify.augment.zoom: received {smallest:g}, {largest:g}; legal: 0 < low <= high"
    for name, length in (("train", settings.train), ("finetune", settings.finetune)):
        if length is not None and (length.gradient_checkpointing or length.panel_every):
            yield f"classify.{name}: classifiers have no gradient_checkpointing and no panels"
