"""A recipe's model, built; with its class and the class of its batches, under one roof."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import NamedTuple

import torch

from voxella.conditioning import LABEL, SPACING, TEXT
from voxella.diffusion.schedule import make_schedule
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.ldm.batch import Batch
from voxella.ldm.module import LatentDiffusion
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Conditioner
from voxella.recipe.model import Recipe

__all__ = ["Batch", "LatentDiffusion", "build_model", "initial_weights"]


def initial_weights(backbone: Component, conditioner: Component) -> dict[str, str]:
    """Return the SHA-256 of the files that training starts from, by block that names `weights`.

    Raises:
        UserError: There is no such file.
    """
    blocks = {"backbone": backbone, "conditioner": conditioner}
    named = {block: component.arguments.get("weights") for block, component in blocks.items()}
    found = {block: Path(path) for block, path in named.items() if path is not None}
    for block, path in found.items():
        if not path.is_file():
            raise UserError(
                f"{block}.weights: training starts from {path}, which does not exist",
                remedy=f"name an existing file, or start from nothing: --set {block}.weights=null",
            )
    return {block: sha256_file(path) for block, path in found.items()}


def build_model(recipe: Recipe, *, to_be_trained: bool = True) -> LatentDiffusion:
    """Build the untrained model of a recipe, its weights drawn from ``recipe.seed``.

    Works under ``torch.device("meta")``: nothing is allocated, parameters can be counted.

    Args:
        recipe: The experiment.
        to_be_trained: Read the files that training starts from. Not where a trained model's weights
            follow: it needs no file but its own.

    Raises:
        UserError: When conditioner, vectors and text of the recipe do not fit together.
    """
    spatial_dims = len(recipe.latent.size)
    num_classes = len(recipe.data.classes)
    conditions = {name: block.width for name, block in recipe.conditions.items()}
    text = {} if recipe.text is None else {TEXT: recipe.text.width}
    # Of the CPU only: the model is drawn there, and forking every GPU's generator starts every GPU.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed % 2**63)
        conditioner = registry.build(
            "conditioners",
            _component(recipe.conditioner, to_be_trained),
            text_dim=recipe.text.width if recipe.text else None,
            num_classes=num_classes,
            conditions={**text, LABEL: num_classes, SPACING: spatial_dims, **conditions},
        )
        names = _Names(recipe.name, recipe.conditioner.name)
        _refuse_unknown_needs(conditioner, {*text, LABEL, SPACING, *conditions}, names)
        listed = [vector.name for vector in recipe.vectors]
        widths = _vector_widths(conditioner, listed, {SPACING: spatial_dims, **conditions}, names)
        backbone = registry.build(
            "backbones",
            _component(recipe.backbone, to_be_trained),
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
        conditions=conditions,
    )


def _component(component: Component, to_be_trained: bool) -> Component:
    left_out = () if to_be_trained else ("weights",)
    kept = {key: value for key, value in component.arguments.items() if key not in left_out}
    return Component(name=component.name, **kept)


class _Names(NamedTuple):
    """What messages call the two."""

    recipe: str
    conditioner: str


def _refuse_unknown_needs(conditioner: Conditioner, known: Set[str], names: _Names) -> None:
    """Refuse a conditioner that reads what the recipe does not know."""
    if TEXT in conditioner.needs and TEXT not in known:
        raise UserError(
            f"conditioner {names.conditioner} reads reports; the recipe has no text block",
            remedy="add text: {encoder: {name: t5, path: ...}, width: 4096}",
        )
    if unknown := sorted(conditioner.needs - known):
        raise UserError(
            f"conditioner {names.conditioner} needs {', '.join(unknown)}, which recipe "
            f"{names.recipe} has not",
            expected=", ".join(sorted({TEXT, *known})),
            remedy=f"say how it becomes a tensor: conditions: {{{unknown[0]}: {{kind: number, "
            "range: [LOW, HIGH]}}",
        )


def _vector_widths(
    conditioner: Conditioner, listed: list[str], own: Mapping[str, int], names: _Names
) -> dict[str, int]:
    """Match the recipe's vectors with those on offer; the order is the recipe's.

    Args:
        conditioner: Offers some.
        listed: The recipe's vectors, by name.
        own: What needs no conditioner: the spacing and the conditions, with their widths.
        names: For messages.
    """
    offered = {**own, **conditioner.vector_sizes}
    unknown = [name for name in listed if name not in offered]
    unused = [name for name in conditioner.vector_sizes if name not in listed]
    if unknown or unused:
        raise UserError(
            f"recipe {names.recipe}: vectors {listed} do not fit conditioner "
            f"{names.conditioner} (unknown: {unknown}, provided but not listed: {unused})",
            expected=f"all of {list(conditioner.vector_sizes)}, and any of {', '.join(own)}",
        )
    if unread := sorted(set(own) - {SPACING, *conditioner.needs, *listed}):
        raise UserError(
            f"recipe {names.recipe}: nothing reads the conditions {', '.join(unread)}: conditioner "
            f"{names.conditioner} does not need them, and vectors do not list them",
            remedy=f"--set 'vectors=[{{name: {unread[0]}, scale: 1}}, ...]', another conditioner, "
            f"or --set conditions.{unread[0]}=null",
        )
    return {name: offered[name] for name in listed}
