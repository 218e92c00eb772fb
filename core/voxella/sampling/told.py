"""What is told of a volume beside its settings: what the text head said, what was given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from voxella.case import Case
from voxella.recipe.inputs import Prepare
from voxella.recipe.sampling import Sample
from voxella.sampling.networks import GeneratedImage
from voxella.sampling.weaker import weaker_origin

__all__ = ["origin_of", "told_of"]


def told_of(case: Case, classes: list[str], made: GeneratedImage) -> dict[str, Any]:
    """Return what a manifest or a provenance tells of one volume.

    Args:
        case: Whose it is.
        classes: The model's, in order.
        made: The volume.
    """
    return {**_prediction(classes, made), **_given(case)}


def origin_of(sample: Sample, prepare: Prepare, sequences: Iterable[str]) -> dict[str, Any]:
    """Return what else decides volumes: weights of a weaker model, windows and units; or nothing.

    Raises:
        UserError: ``sample.autoguidance`` is no exported model.
    """
    measured = prepare.quantities(sequences)
    # Volumes from before are those without it.
    units = {"intensity": measured} if measured else {}
    return units | weaker_origin(sample.autoguidance)


def _given(case: Case) -> dict[str, list[str]]:
    """Return which sequences a prompt gave, so that they are not generated; or nothing."""
    given = case.extra.get("given_sha256")
    return {"given": sorted(given)} if given else {}


def _prediction(classes: list[str], made: GeneratedImage) -> dict[str, Any]:
    """Return what the text head says of the prompt, or nothing for models without one."""
    if made.class_probabilities is None:
        nothing = ("predicted_label", "predicted_probability", "predicted_probabilities")
        return dict.fromkeys(nothing)
    probabilities = made.class_probabilities.tolist()
    by_class = dict(zip(classes, probabilities, strict=True))
    best = max(by_class, key=lambda name: by_class[name])
    return {
        "predicted_label": best,
        "predicted_probability": round(by_class[best], 6),
        "predicted_probabilities": {name: round(share, 6) for name, share in by_class.items()},
    }
