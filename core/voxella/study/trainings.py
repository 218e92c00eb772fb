"""A recipe that a study trains several times: each training with a seed and a folder of its own.

The first is the recipe as it stands, in the folder that a study without repetition gives it: asked
for more trainings, a study makes those that are missing. What lies in the workspace (data,
prepared cases, autoencoder, caches) keeps the recipe's seed (``workspace_seed``) and is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from voxella.errors import UserError
from voxella.recipe.classification import Classify
from voxella.study.recipes import Loaded
from voxella.study.step import Step

__all__ = ["refuse_taken", "repeated", "seed_of"]


def seed_of(seed: int, classify: Classify | None, training: int) -> int:
    """Return the seed of a training, from 0; a classifier's own trainings lie between two."""
    return seed + training * (1 if classify is None else classify.seeds)


def repeated(step: Step, seeds: int, base: Loaded | None = None) -> list[Step]:
    """Return a step for each training of a recipe.

    Args:
        step: The first.
        seeds: How many trainings.
        base: The recipe whose volumes a classifier learns from: each training of the one from
            those of a training of the other. None: it learns from none, or from a given set.
    """
    return [step, *(_again(step, number, base) for number in range(1, seeds))]


def _again(step: Step, training: int, base: Loaded | None) -> Step:
    recipe = step.recipe
    changed: dict[str, Any] = {"seed": seed_of(recipe.seed, recipe.classify, training)}
    changed["workspace_seed"] = recipe.shared_seed
    if base is not None and recipe.classify is not None:
        seed = seed_of(base.recipe.seed, base.recipe.classify, training)
        made = f"{base.recipe.name}-seed-{seed}"
        samples = step.folder.parent / made / "samples"
        changed["classify"] = recipe.classify.model_copy(update={"samples": samples})
    own = replace(step, recipe=recipe.model_copy(update=changed), training=training)
    name = f"{step.name}{own.suffix}"
    return replace(own, name=name, folder=step.folder.parent / name, row_name=step.row)


def refuse_taken(steps: Sequence[Step]) -> None:
    """Refuse a recipe that is called as a training of another.

    Raises:
        UserError: There is one; both would lie in one folder.
    """
    names = [step.name for step in steps]
    taken = sorted({name for name in names if names.count(name) > 1})
    if taken:
        raise UserError(
            f"a training of another recipe has the name {', '.join(taken)}, too",
            remedy="give the recipe file another `name:`",
        )
