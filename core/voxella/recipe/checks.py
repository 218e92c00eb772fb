"""What only shows when blocks are seen together; every rule says why it exists."""

from __future__ import annotations

import math
from collections.abc import Iterator

from voxella.diffusion.samplers import misfits, quickest
from voxella.limits import VOXELS
from voxella.recipe.model import Recipe
from voxella.recipe.problems import Problem
from voxella.recipe.shape import KeyPath
from voxella.recipe.yaml_lines import Node, locate

__all__ = ["cross_check"]


def cross_check(recipe: Recipe, tree: Node) -> list[Problem]:
    """Return what is wrong between the blocks of a recipe that is legal block by block."""
    return [
        Problem(str(locate(tree, path)[0].mark), path, text)
        for path, text in (*_samplers(recipe), *_grids(recipe), *_ranges(recipe))
    ]


def _samplers(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Every plan that the recipe will ask for: of its samples, of a sweep, of panels."""
    sample, train = recipe.sample, recipe.train
    plan = (recipe.diffusion.schedule, recipe.diffusion.steps)
    for key, text in misfits(sample.sampler, *plan, sample.steps):
        yield ("sample", key), text
    for steps in sample.sweep.steps if sample.sweep is not None else []:
        for key, text in misfits(sample.sampler, *plan, steps):
            if key == "steps":
                yield ("sample", "sweep", "steps"), text
    if train.panel_every:
        for _, text in misfits(quickest(plan[0])[0], *plan, train.panel_steps):
            yield ("train", "panel_steps"), text


def _grids(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    size, latent, crop = recipe.prepare.size, recipe.latent.size, recipe.prepare.crop_mm
    if len(crop) != len(size):
        yield ("prepare", "crop_mm"), f"has {len(crop)} axes, prepare.size has {len(size)}"
    if len(latent) != len(size):
        yield ("latent", "size"), f"has {len(latent)} axes, prepare.size has {len(size)}"
        return
    if (voxels := math.prod(size)) > VOXELS.most:
        yield (
            ("prepare", "size"),
            f"{voxels:,} voxels; legal: at most {VOXELS.most:,} ({VOXELS.remedy(voxels)})",
        )
    # An autoencoder has one factor for all axes (contracts.Autoencoder.factor).
    factors = {voxels / cells for voxels, cells in zip(size, latent, strict=True)}
    if len(factors) != 1 or not next(iter(factors)).is_integer():
        yield (
            ("latent", "size"),
            f"received {latent}: prepare.size {size} must be one whole multiple of it, the "
            "autoencoder's factor, the same on every axis",
        )


def _ranges(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    diffusion, dropout = recipe.diffusion, recipe.dropout
    low, high = recipe.prepare.percentiles
    if not 0 <= low < high <= 100:
        yield ("prepare", "percentiles"), f"received {low}, {high}; legal: 0 <= low < high <= 100"
    if diffusion.beta_start >= diffusion.beta_end:
        yield (
            ("diffusion", "beta_start"),
            f"received {diffusion.beta_start}; legal: below beta_end, {diffusion.beta_end}",
        )
    total = dropout.text + dropout.label + dropout.both
    if total > 1:
        yield (
            ("dropout",),
            f"the three shares add up to {total:g}; legal: at most 1, each case loses one of them",
        )
