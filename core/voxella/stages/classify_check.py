"""What can be known to be wrong with a classifier before hours of preparation and sampling."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from voxella.classification.task import build_task
from voxella.engine.ranks import Ranks
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.recipe.classification import Classify
from voxella.recipe.model import Recipe

__all__ = ["check_classify", "settings_of"]


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
    if problems:
        raise UserError("\n".join(problems))
    try:
        with torch.device("meta"):
            build_task(recipe, recipe.seed)
    except (NotImplementedError, RuntimeError):
        # A plugin that reads a weight while it is built cannot be built so; training will tell.
        return


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
