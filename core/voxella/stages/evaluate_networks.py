"""Which networks make the features: the paper's where their weights are given, else random ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from voxella.errors import UserError
from voxella.files import sha256_file
from voxella.metrics.features.medicalnet import medicalnet
from voxella.metrics.features.network import PLANES, TorchFeatures
from voxella.metrics.features.radimagenet import radimagenet
from voxella.metrics.features.random_network import random_networks
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.model import Recipe

__all__ = ["KINDS", "check_evaluation", "feature_networks", "kind_of", "told"]

# How numbers of features are named: of volumes, and of the slices of each plane.
KINDS = ("3d", *(f"2d_{plane}" for plane in PLANES))
_NAMED = ("medicalnet", "radimagenet")


def check_evaluation(recipe: Recipe) -> None:
    """Refuse, before hours of other stages, what the evaluation would refuse at their end.

    Raises:
        UserError: A file of weights is absent or is not the one meant; an unknown sequence.
    """
    settings = recipe.evaluate
    problems = [problem for name in _NAMED if (problem := _wrong_file(settings, name))]
    if settings.sequence is not None and settings.sequence not in recipe.data.sequences:
        problems.append(
            f"evaluate.sequence: {settings.sequence} is none of {', '.join(recipe.data.sequences)}"
        )
    if problems:
        raise UserError(
            "\n".join(problems),
            remedy="--set evaluate.medicalnet=PATH, --set evaluate.radimagenet=PATH; null for "
            "either: features of a fixed-seed network, comparable with no published number",
        )


def feature_networks(recipe: Recipe, device: torch.device | str = "cpu") -> list[TorchFeatures]:
    """Return the network of volumes and those of slices; for single slices, the axial one alone.

    Raises:
        UserError: As :func:`check_evaluation`; or a file holds another network.
    """
    check_evaluation(recipe)
    settings = recipe.evaluate
    made = random_networks(dim=settings.feature_dim, seed=settings.feature_seed, device=device)
    volumes, slices = made[0], made[1:]
    if settings.medicalnet is not None:
        volumes = medicalnet(settings.medicalnet, device=device)
    if settings.radimagenet is not None:
        slices = radimagenet(settings.radimagenet, device=device)
    if len(recipe.latent.size) < len(PLANES):
        return [network for network in slices if network.plane == "axial"]
    return [volumes, *slices]


def kind_of(network: TorchFeatures) -> str:
    """Return how the network's numbers are named: ``3d``, ``2d_sagittal``..."""
    return "3d" if network.plane is None else f"2d_{network.plane}"


def told(networks: Sequence[TorchFeatures]) -> list[dict[str, Any]]:
    """Return what ``metrics.json`` says of the networks."""
    return [
        {
            "name": network.name,
            "kind": kind_of(network),
            "features": network.dim,
            "fingerprint": network.fingerprint,
            "weights_sha256": network.weights_sha256,
            "comparable_with_paper": network.comparable_with_paper,
        }
        for network in networks
    ]


def _wrong_file(settings: Evaluate, name: str) -> str | None:
    path: Path | None = getattr(settings, name)
    wanted: str | None = getattr(settings, f"{name}_sha256")
    if path is None:
        return None
    if not path.is_file():
        return f"evaluate.{name}: there are no weights at {path}"
    if wanted is not None and (found := sha256_file(path)) != wanted.lower():
        return f"evaluate.{name}: the SHA-256 of {path} is {found}, not {wanted}"
    return None
