"""What a training does with cases that have no label, told before hours of preparation."""

from __future__ import annotations

from collections.abc import Collection

from voxella.cache.index import listed
from voxella.case import Manifest
from voxella.errors import UserError
from voxella.progress import say
from voxella.recipe.model import Recipe

__all__ = ["check_training_labels"]


def check_training_labels(recipe: Recipe, manifest: Manifest, needs: Collection[str]) -> None:
    """Refuse to train a class on cases of which none has one; count those that lack it.

    Args:
        recipe: Its class loss is read.
        manifest: The data set.
        needs: What the recipe's conditioner reads; ``label`` among it: a class vector.

    Raises:
        UserError: No case of the split train has a label, and the recipe learns from labels.
    """
    if (lost := _without_label(recipe, needs)) is None:
        return
    cases = manifest.split("train")
    bare = [case.id for case in cases if case.label is None]
    if cases and len(bare) == len(cases):
        raise UserError(
            f"none of the {len(cases)} training cases of {manifest.folder} has a label, and recipe "
            f"{recipe.name} learns from labels",
            legal="recipes without a class: recipes/ellabase.yaml (reports), recipes/base.yaml",
            remedy="import again with labels (see docs/importers.md), or take one of these recipes",
        )
    if bare:
        say(
            f"warning: {len(bare)} of {len(cases)} training cases have no label and {lost}: "
            f"{listed(bare)}"
        )


def _without_label(recipe: Recipe, needs: Collection[str]) -> str | None:
    """Return what becomes of a case without a label; None where labels do not matter."""
    if "label" in needs:
        return "are shown as of no class"
    return "take no part in the class loss" if recipe.loss.class_weight > 0 else None
