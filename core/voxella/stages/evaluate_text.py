"""What the text head says of the reports, against the cases' labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voxella.metrics.binary import binary_metrics
from voxella.metrics.calibration import calibration_curve
from voxella.metrics.estimate import Estimate
from voxella.metrics.predictions import Predictions
from voxella.recipe.model import Recipe
from voxella.stages.evaluate_measured import Measured
from voxella.stages.evaluate_sets import Sets

__all__ = ["HeadAnswer", "answers_of_samples", "text_head", "unanswered"]

# Names of the metrics as metrics.json has them.
_NAMES = {
    **{name: name for name in ("accuracy", "sensitivity", "specificity", "ppv", "npv", "auc")},
    "average_precision": "ap",
    **{name: name for name in ("brier", "ece", "prevalence")},
}
_WITH_REPORT = "_with_report"


@dataclass(frozen=True)
class HeadAnswer:
    """What the head said of one report.

    Attributes:
        case_id: The report's case.
        patient: Whose.
        label: Class name, known.
        probability: Of the positive class.
        has_report: Whether there was a report; without one it is the empty report's.
    """

    case_id: str
    patient: str
    label: str
    probability: float
    has_report: bool


def answers_of_samples(recipe: Recipe, sets: Sets) -> list[HeadAnswer] | str:
    """Return the head's answers kept with the synthetic cases, one a report; or why none are.

    Of several volumes of one report the first counts: the head saw the same report each time.
    """
    positive = recipe.data.classes[-1]
    found: dict[str, HeadAnswer] = {}
    answered = 0
    for subject in sets.synthetic:
        extra = subject.case.extra
        shares: Mapping[str, float] | None = extra.get("predicted_probabilities")
        answered += shares is not None
        key = str(extra.get("source_case", subject.id))
        if shares is None or key in found or subject.case.label not in recipe.data.classes:
            continue
        has_report = extra.get("prompt_sha256") is not None
        found[key] = HeadAnswer(
            key, subject.patient, str(subject.case.label), float(shares[positive]), has_report
        )
    if not answered:
        return "the synthetic cases carry no class probabilities: the model has no text head"
    if not found:
        return "no case has a label of the recipe's classes"
    return list(found.values())


def text_head(
    recipe: Recipe, answers: Sequence[HeadAnswer], split: str, suffix: str = ""
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Return ``text_*`` over all cases and over those with a report, and their calibration curves.

    Args:
        recipe: Its last class is the positive one.
        answers: At least one.
        split: Of the reports.
        suffix: Set apart from the same numbers of other reports, such as ``_heldout``.
    """
    found: dict[str, Measured] = {}
    curves: dict[str, Any] = {}
    for end, chosen in (
        (suffix, list(answers)),
        (suffix + _WITH_REPORT, [answer for answer in answers if answer.has_report]),
    ):
        if not chosen:
            found |= unanswered(recipe, "no case has a report", split, end)
            continue
        predictions = Predictions.of(
            [answer.case_id for answer in chosen],
            [answer.label == recipe.data.classes[-1] for answer in chosen],
            [answer.probability for answer in chosen],
            patients=[answer.patient for answer in chosen],
        )
        found |= _metrics(recipe, predictions, split, end)
        level = recipe.evaluate.level
        curves[f"text{end}"] = [b.as_json() for b in calibration_curve(predictions, level=level)]
    return found, curves


def unanswered(recipe: Recipe, why: str, split: str, suffix: str) -> dict[str, Measured]:
    """Return ``text_*`` without values, and the reason."""
    nothing = Estimate.undefined(0, why, level=recipe.evaluate.level)
    return {f"text_{name}{suffix}": Measured(nothing, split) for name in _NAMES.values()}


def _metrics(
    recipe: Recipe, predictions: Predictions, split: str, suffix: str
) -> dict[str, Measured]:
    estimates = binary_metrics(
        predictions,
        seed=recipe.seed,
        name=f"text{suffix}/{split}",
        replicates=recipe.evaluate.bootstrap,
        level=recipe.evaluate.level,
    )
    return {f"text_{_NAMES[name]}{suffix}": Measured(e, split) for name, e in estimates.items()}
