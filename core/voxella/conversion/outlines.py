"""The recipe's networks as names and shapes, on the device ``meta``: nothing is allocated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.load import AutoencoderPlan
from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.recipe.classification import Classify

__all__ = ["autoencoder_outline", "classifier_outline", "model_outlines"]

Outline = Mapping[str, Tensor]


def model_outlines(model: LatentDiffusion) -> dict[str, Outline]:
    """Return the denoiser and the conditioner of a model."""
    return {
        part: network.state_dict()
        for part, network in (("backbone", model.backbone), ("conditioner", model.conditioner))
    }


def autoencoder_outline(plan: AutoencoderPlan) -> Outline:
    """Return the autoencoder's, without reading the weights that a recipe names."""
    images, latents = plan.pass_channels
    return _outline(
        "autoencoders",
        plan.component,
        spatial_dims=len(plan.latent.size),
        in_channels=images,
        latent_channels=latents,
    )


def classifier_outline(
    classify: Classify | None, *, spatial_dims: int, in_channels: int, num_classes: int
) -> Outline:
    """Return the classifier's.

    Raises:
        UserError: The recipe has none.
    """
    if classify is None:
        raise UserError(
            "the file holds a classifier, and the recipe has none",
            remedy="--recipe recipes/downstream/real.yaml, or another with a classify block",
        )
    return _outline(
        "classifiers",
        classify.classifier,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=num_classes,
    )


def _outline(kind: str, component: Component, **injected: Any) -> Outline:  # noqa: ANN401 - the engine's arguments
    kept = {key: value for key, value in component.arguments.items() if key != "weights"}
    bare = Component(name=component.name, **kept)
    with torch.device("meta"):
        return cast("nn.Module", registry.build(kind, bare, **injected)).state_dict()
