"""Which networks make the features: the paper's where their weights are given, else others.

Of volumes: the paper's, else a classifier of real images where one is given, else a random one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from voxella.errors import UserError
from voxella.evaluation.classifier import frozen_classifier
from voxella.evaluation.classifier_features import (
    ClassifierFeatures,
    classifier_features,
    classifier_predictions,
)
from voxella.evaluation.extractors import Extractor, OneSequence
from voxella.hashing import sha256_file
from voxella.metrics.declared.lookup import chosen_metrics
from voxella.metrics.declared.number import PICTURES
from voxella.metrics.features.inception import inception
from voxella.metrics.features.medicalnet import medicalnet
from voxella.metrics.features.network import PLANES, TorchFeatures
from voxella.metrics.features.radimagenet import radimagenet
from voxella.metrics.features.random_network import random_networks
from voxella.plugins.component import Component
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data, Prepare
from voxella.recipe.model import Recipe

__all__ = [
    "Network",
    "check_evaluation",
    "feature_networks",
    "kind_of",
    "networks_of",
    "seen_by",
    "told",
]

Network = TorchFeatures | ClassifierFeatures

_NAMED = ("medicalnet", "radimagenet", "inception")


def check_evaluation(recipe: Recipe) -> None:
    """Refuse, before hours of other stages, what the evaluation would refuse at their end.

    Raises:
        UserError: A file of weights is absent, is not the one meant or holds another network; an
            unknown sequence; a classifier that cannot serve; a metric that cannot be built.
    """
    settings, data, prepare = recipe.evaluate, recipe.data, recipe.prepare
    _refuse(
        _wrong_settings(settings, data.sequences, prepare),
        _wrong_classifier(settings, data, prepare),
        _wrong_metrics(settings.metrics),
    )
    if any(getattr(settings, name) is not None for name in _NAMED):
        # Reading them takes seconds, as with a classifier.
        feature_networks(settings, data, prepare)


def _refuse(*found: UserError | None) -> None:
    problems = [problem for problem in found if problem is not None]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))


def _wrong_settings(settings: Evaluate, sequences: list[str], prepare: Prepare) -> UserError | None:
    problems = [problem for name in _NAMED if (problem := _wrong_file(settings, name))]
    if settings.inception is not None and not _flat(prepare):
        problems.append("evaluate.inception: of pictures, and prepare.size has three axes")
    if settings.sequence is not None and settings.sequence not in sequences:
        problems.append(f"evaluate.sequence: {settings.sequence} is none of {', '.join(sequences)}")
    if not problems:
        return None
    return UserError(
        "\n".join(problems),
        remedy="--set evaluate.medicalnet=PATH, --set evaluate.radimagenet=PATH, of pictures "
        "--set evaluate.inception=PATH; null for any: features of a fixed-seed network, "
        "comparable with no published number",
    )


def _wrong_classifier(settings: Evaluate, data: Data, prepare: Prepare) -> UserError | None:
    try:
        kept = frozen_classifier(settings.classifier, data, prepare)
        if kept is not None:
            # Building and reading them takes seconds; to learn it at the end would take hours.
            classifier_predictions(kept, "cpu")
            if _gives_features(settings, prepare):
                classifier_features(kept, "cpu")
    except UserError as problem:
        return problem
    return None


def _wrong_metrics(metrics: list[Component] | None) -> UserError | None:
    try:
        chosen_metrics(metrics)
    except UserError as problem:
        return problem
    return None


def feature_networks(
    settings: Evaluate, data: Data, prepare: Prepare, device: torch.device | str = "cpu"
) -> list[TorchFeatures]:
    """Return the network of volumes and those of slices; of pictures and single slices, theirs.

    These are the papers', or random ones. Colours are seen by Inception, or by a random network in
    its place; grey slices by the axial network, and by Inception where its weights are named.

    Raises:
        UserError: A file holds another network.
    """
    made = random_networks(
        dim=settings.feature_dim,
        seed=settings.feature_seed,
        channels=prepare.channels_of(settings.sequence or data.sequences[0]),
        device=device,
    )
    volumes, slices = made[0], made[1:]
    if settings.medicalnet is not None:
        volumes = medicalnet(settings.medicalnet, device=device)
    if settings.radimagenet is not None:
        slices = radimagenet(settings.radimagenet, device=device)
    if not _flat(prepare):
        return [volumes, *slices]
    axial = [network for network in slices if network.plane == "axial"]
    if settings.inception is not None:
        grey = axial if settings.radimagenet is not None or made[0].channels == 1 else []
        return [inception(settings.inception, device=device), *grey]
    if settings.radimagenet is not None:
        return axial
    return [replace(one, pictures=one.channels > 1) for one in axial]


def networks_of(
    settings: Evaluate, data: Data, prepare: Prepare, device: torch.device | str = "cpu"
) -> list[Network]:
    """Return the networks of an evaluation: the same, with a classifier's where the recipe says so.

    Raises:
        UserError: As :func:`check_evaluation`; or a file holds another network.
    """
    _refuse(
        _wrong_settings(settings, data.sequences, prepare),
        _wrong_classifier(settings, data, prepare),
    )
    networks: list[Network] = [*feature_networks(settings, data, prepare, device)]
    kept = frozen_classifier(settings.classifier, data, prepare)
    if kept is not None and _gives_features(settings, prepare):
        networks[0] = classifier_features(kept, device)
    return networks


def seen_by(network: Network, channel: int, count: int = 1) -> Extractor:
    """Return what looks at a case for a network: at one of its sequences, or at all.

    Args:
        network: A classifier sees what it was trained on.
        channel: For any other, the first of the sequence.
        count: How many it has.
    """
    if isinstance(network, ClassifierFeatures):
        return network
    return OneSequence(network, channel, count)


def kind_of(network: Network) -> str:
    """Return how the network's numbers are named: ``3d``, ``2d_axial``...; ``2d`` of pictures."""
    if isinstance(network, TorchFeatures) and network.pictures:
        return PICTURES
    return "3d" if network.plane is None else f"2d_{network.plane}"


def told(networks: Sequence[Network]) -> list[dict[str, Any]]:
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


def _gives_features(settings: Evaluate, prepare: Prepare) -> bool:
    """Return whether a classifier stands in for the paper's network of volumes."""
    return settings.medicalnet is None and not _flat(prepare)


def _flat(prepare: Prepare) -> bool:
    """Return whether the images have two axes."""
    return len(prepare.size) < len(PLANES)


def _wrong_file(settings: Evaluate, name: str) -> str | None:
    path: Path | None = getattr(settings, name)
    wanted: str | None = getattr(settings, f"{name}_sha256")
    if path is None:
        return None if wanted is None else f"evaluate.{name}_sha256: evaluate.{name} names no file"
    if not path.is_file():
        return f"evaluate.{name}: there are no weights at {path}"
    if wanted is not None and (found := sha256_file(path)) != wanted.lower():
        return f"evaluate.{name}: the SHA-256 of {path} is {found}, not {wanted}"
    return None
