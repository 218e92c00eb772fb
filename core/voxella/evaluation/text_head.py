"""What the text head says of the reports, against the cases' labels.

The text head on reports that training has not seen: the conditioner alone, no sampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from voxella.cache.text import TextCache
from voxella.diffusion.samplers import make_sampler
from voxella.errors import UserError
from voxella.evaluation.sets import Sets, Subject
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.conditions import encoded
from voxella.ldm.export import load_facts, load_model
from voxella.metrics.calibration import calibration_curve
from voxella.metrics.declared.measured import Measured, reason
from voxella.metrics.declared.number import BINARY, key_of
from voxella.metrics.estimate import Estimate
from voxella.metrics.multiclass import one_vs_rest, prediction_metrics
from voxella.metrics.predictions import ClassPredictions, Predictions, predictions_of
from voxella.recipe.condition import Condition
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data, Text
from voxella.recipe.sampling import Sample
from voxella.workspace.folders import Folders

__all__ = [
    "HeadPrediction",
    "as_predictions",
    "predictions_of_samples",
    "predictions_of_unseen",
    "text_head",
    "without_predictions",
]

# Keys of the numbers, after "text_".
_KEYS = (*BINARY, "brier", "ece", "prevalence")
_WITH_REPORT = "_with_report"


@dataclass(frozen=True)
class HeadPrediction:
    """What the head said of one report.

    Attributes:
        case_id: The report's case.
        patient: Whose.
        label: Class name, known.
        probabilities: Of each class, in the recipe's order.
        has_report: Whether there was a report; without one it is the empty report's.
    """

    case_id: str
    patient: str
    label: str
    probabilities: tuple[float, ...]
    has_report: bool


def predictions_of_samples(classes: list[str], sets: Sets) -> list[HeadPrediction] | str:
    """Return the head's predictions kept with the synthetic cases, one a report; or why none are.

    Of several volumes of one report the first counts: the head saw the same report each time.
    """
    found: dict[str, HeadPrediction] = {}
    answered = 0
    for subject in sets.synthetic:
        extra = subject.case.extra
        shares: Mapping[str, float] | None = extra.get("predicted_probabilities")
        answered += shares is not None
        key = str(extra.get("source_case", subject.id))
        if shares is None or key in found or subject.case.label not in classes:
            continue
        has_report = extra.get("prompt_sha256") is not None
        # A class that is not there is refused with the numbers that need it.
        likely = tuple(float(shares.get(name, math.nan)) for name in classes)
        label = str(subject.case.label)
        found[key] = HeadPrediction(key, subject.group, label, likely, has_report)
    if not answered:
        return "the synthetic cases carry no class probabilities: the model has no text head"
    if not found:
        return "no case has a label of the recipe's classes"
    return list(found.values())


def text_head(
    data: Data,
    settings: Evaluate,
    seed: int,
    predicted: Sequence[HeadPrediction],
    split: str,
    suffix: str = "",
) -> tuple[dict[str, Measured], dict[str, Any], dict[str, Any]]:
    """Return ``text_*`` over all cases and over those with a report, and what belongs to them.

    That is their calibration curves, and, where no class is the positive one, the numbers of each
    class against the rest.

    Args:
        data: Names the classes, and a positive one where there is one.
        settings: How sure the numbers are to be.
        seed: Of every draw.
        predicted: At least one.
        split: Of the reports.
        suffix: Set apart from the same numbers of other reports, such as ``_heldout``.
    """
    found: dict[str, Measured] = {}
    curves: dict[str, Any] = {}
    by_class: dict[str, Any] = {}
    for end, chosen in (
        (suffix, list(predicted)),
        (suffix + _WITH_REPORT, [prediction for prediction in predicted if prediction.has_report]),
    ):
        if not chosen:
            found |= without_predictions(settings.level, "no case has a report", split, end)
            continue
        predictions = as_predictions(data, chosen)
        name, replicates, level = f"text{end}/{split}", settings.bootstrap, settings.level
        estimates = prediction_metrics(
            predictions, seed=seed, name=name, replicates=replicates, level=level
        )
        found |= {f"text_{key_of(key)}{end}": Measured(e, split) for key, e in estimates.items()}
        each = one_vs_rest(predictions, seed=seed, name=name, replicates=replicates, level=level)
        by_class |= {f"text{end}": each} if each else {}
        for which, one in _each(predictions).items():
            curve = calibration_curve(one, level=level)
            curves[f"text{end}{which}"] = [part.as_json() for part in curve]
    return found, curves, by_class


def as_predictions(
    data: Data, predicted: Sequence[HeadPrediction]
) -> Predictions | ClassPredictions:
    """Return the head's predictions together: of the positive class, or of every class.

    Raises:
        UserError: A probability is none.
    """
    return predictions_of(
        data.classes,
        data.positive_class,
        [prediction.case_id for prediction in predicted],
        [prediction.label for prediction in predicted],
        [prediction.probabilities for prediction in predicted],
        patients=[prediction.patient for prediction in predicted],
    )


def _each(predictions: Predictions | ClassPredictions) -> dict[str, Predictions]:
    """Return by the end of its curve's name what has one: the positive class, or each class."""
    if isinstance(predictions, Predictions):
        return {"": predictions}
    names = enumerate(predictions.classes)
    return {f"/{name}": predictions.against_rest(place) for place, name in names}


def without_predictions(level: float, why: str, split: str, suffix: str) -> dict[str, Measured]:
    """Return ``text_*`` without values, and the reason."""
    nothing = Estimate.undefined(0, why, level=level)
    return {f"text_{name}{suffix}": Measured(nothing, split) for name in _KEYS}


def predictions_of_unseen(
    data: Data,
    text: Text | None,
    sample: Sample,
    latent_size: Sequence[int],
    conditions: Mapping[str, Condition],
    folders: Folders,
    sets: Sets,
    device: torch.device,
) -> list[HeadPrediction] | str:
    """Return what the run's model says of the unseen split's reports; or why it says nothing.

    As in sampling the head is asked at the sampler's last timestep; the label is withheld.

    Args:
        data: The classes.
        text: Which features the head reads; None: none.
        sample: Sampler and steps.
        latent_size: Voxels along each axis, by which a flow's timesteps may be shifted.
        conditions: The recipe's, by name.
        folders: Of the run: its model and text features.
        sets: The unseen cases.
        device: Where to compute.
    """
    labelled = [s for s in sets.unseen if s.case.label in data.classes]
    if text is None:
        return "the recipe reads no text"
    if not labelled:
        return "neither test nor val has a labelled case"
    try:
        cache = TextCache.open(folders.text, text)
        cache.require(subject.id for subject in labelled)
        load_facts(folders.model)
    except UserError as refusal:
        return reason(refusal)
    model = load_model(folders.model).to(device)
    sampler = make_sampler(
        sample.sampler, model.schedule, sample.steps, shift=sample.shift(latent_size)
    )
    found = list(_asked(sampler.moves[-1].t, conditions, model, cache, labelled, device))
    return found or "the model has no text head"


@torch.no_grad()
def _asked(
    last: int,
    conditions: Mapping[str, Condition],
    model: LatentDiffusion,
    text: TextCache,
    subjects: Iterable[Subject],
    device: torch.device,
) -> Iterable[HeadPrediction]:
    timestep = torch.tensor([last], device=device)
    for subject in subjects:
        features, has_report = text.read(subject.id)
        given: dict[str, Any] = {"text_features": features[None].float().to(device)}
        spacing = subject.case.extra.get("spacing_mm")
        if spacing:
            given["spacing_mm"] = torch.tensor([spacing], device=device)
        given["conditions"] = {
            name: tensor[None].to(device)
            for name, tensor in encoded(conditions, subject.case).items()
        }
        logits = model.condition(timesteps=timestep, **given).class_logits
        if logits is None:
            return
        likely = tuple(logits.float().softmax(dim=1)[0].tolist())
        label = str(subject.case.label)
        yield HeadPrediction(subject.id, subject.group, label, likely, has_report)
