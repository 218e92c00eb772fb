"""A recipe's model, built; with its class and the class of its batches, under one roof."""

from __future__ import annotations

import torch

from voxella.diffusion.schedule import make_schedule
from voxella.errors import UserError
from voxella.ldm.module import SPACING, Batch, LatentDiffusion
from voxella.plugins import registry
from voxella.plugins.contracts import Conditioner
from voxella.recipe.model import Recipe

__all__ = ["Batch", "LatentDiffusion", "build_model"]


def build_model(recipe: Recipe) -> LatentDiffusion:
    """Build the untrained model of a recipe, its weights drawn from ``recipe.seed``.

    Works under ``torch.device("meta")``: nothing is allocated, parameters can be counted.

    Raises:
        UserError: When conditioner, vectors and text of the recipe do not fit together.
    """
    spatial_dims = len(recipe.latent.size)
    num_classes = len(recipe.data.classes)
    # Of the CPU only: the model is drawn there, and forking every GPU's generator starts every GPU.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed % 2**63)
        conditioner = registry.build(
            "conditioners",
            recipe.conditioner,
            text_dim=recipe.text.width if recipe.text else None,
            num_classes=num_classes,
        )
        widths = _vector_widths(recipe, conditioner, spatial_dims)
        backbone = registry.build(
            "backbones",
            recipe.backbone,
            spatial_dims=spatial_dims,
            in_channels=recipe.latent.channels,
            out_channels=recipe.latent.channels,
            input_size=list(recipe.latent.size),
            context_dim=conditioner.context_dim,
            vectors=widths,
        )
    backbone.set_gradient_checkpointing(recipe.train.gradient_checkpointing)
    # Tables of the forward process stay real even when parameters are only counted.
    with torch.device("cpu"):
        schedule = make_schedule(
            recipe.diffusion.schedule,
            steps=recipe.diffusion.steps,
            beta_start=recipe.diffusion.beta_start,
            beta_end=recipe.diffusion.beta_end,
        )
    return LatentDiffusion(
        backbone,
        conditioner,
        schedule=schedule,
        prediction=recipe.diffusion.prediction,
        vectors={vector.name: vector.scale for vector in recipe.vectors},
        num_classes=num_classes,
        spatial_dims=spatial_dims,
        loss=recipe.loss,
    )


def _vector_widths(recipe: Recipe, conditioner: Conditioner, spatial_dims: int) -> dict[str, int]:
    """Match the recipe's vectors with those on offer; the order is the recipe's."""
    if "text" in conditioner.needs and recipe.text is None:
        raise UserError(
            f"conditioner {recipe.conditioner.name} reads reports; the recipe has no text block",
            remedy="add text: {encoder: {name: t5, path: ...}, width: 4096}",
        )
    offered = {SPACING: spatial_dims, **conditioner.vector_sizes}
    listed = [vector.name for vector in recipe.vectors]
    unknown = [name for name in listed if name not in offered]
    unused = [name for name in conditioner.vector_sizes if name not in listed]
    if unknown or unused:
        raise UserError(
            f"recipe {recipe.name}: vectors {listed} do not fit conditioner "
            f"{recipe.conditioner.name} (unknown: {unknown}, provided but not listed: {unused})",
            legal=f"all of {list(conditioner.vector_sizes)}, and {SPACING} or not",
        )
    return {name: offered[name] for name in listed}
