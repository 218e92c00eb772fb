"""``adherence_label_*``: whether a classifier of real images sees the label a volume was made for.

What the classifier is worth on real cases that it has not learnt from stands beside every number;
where that is not clearly above chance, there is no number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from voxella.evaluation.classifier import HELD_OUT, FrozenClassifier
from voxella.evaluation.classifier_features import ClassifierPredictions
from voxella.evaluation.features import FeatureStore
from voxella.evaluation.sets import Sets, Subject
from voxella.metrics.declared.measured import Measured
from voxella.metrics.estimate import Estimate, joined
from voxella.metrics.multiclass import prediction_metrics
from voxella.metrics.predictions import ClassPredictions, Predictions, predictions_of
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data

__all__ = ["NAMES", "held_out", "label_agreement"]

NAMES = ("accuracy", "auc", "sensitivity", "specificity")


def held_out(
    classes: list[str], kept: FrozenClassifier, sets: Sets
) -> tuple[list[Subject], str | None]:
    """Return labelled real cases that the classifier has not learnt from, and of which split.

    Which those are its own predictions say, not this run's splits: it may have been trained on
    other ones. Of test; where there are none, of val, which has chosen its epoch.
    """
    labelled = [s for s in sets.unseen if s.case.label in classes]
    for split in HELD_OUT:
        found = [s for s in labelled if (s.id, s.group) in kept.apart[split]]
        if found:
            return found, split
    return [], None


def label_agreement(
    data: Data,
    settings: Evaluate,
    seed: int,
    sets: Sets,
    classifier: ClassifierPredictions,
    real: FeatureStore,
    made: FeatureStore,
) -> dict[str, Measured]:
    """Return ``adherence_label_*`` of one data set: of the positive class, or of every class.

    Args:
        data: The classes.
        settings: How sure the numbers are to be.
        seed: Of every draw.
        sets: Who takes part.
        classifier: The classifier.
        real: Holds its predictions on held-out real cases.
        made: On synthetic cases.
    """
    known, split = held_out(data.classes, classifier.kept, sets)
    best_of = _predictions(data, known, classifier, real)
    best = _numbers(settings, seed, best_of, f"adherence_label/real/{split}", _NOTHING_KNOWN)
    chosen = "these are val cases, which have chosen its epoch" if split == "val" else None
    best = {name: replace(one, note=joined(chosen, one.note)) for name, one in best.items()}
    labelled = [s for s in sets.synthetic if s.case.label in data.classes]
    asked = _predictions(data, labelled, classifier, made)
    refusal = no_better_than_chance(best_of, best["auc"], str(split))
    found = (
        _numbers(settings, seed, asked, f"adherence_label/{sets.split}", _NOTHING_ASKED)
        if refusal is None
        else dict.fromkeys(
            NAMES, Estimate.undefined(len(labelled), refusal, level=best["auc"].level)
        )
    )
    remark = joined(_unlabelled(sets, labelled), chosen and f"baseline: {chosen}")
    return {
        f"adherence_label_{name}": Measured(
            replace(one, note=joined(one.note, remark)),
            sets.split,
            network=classifier.kept.name,
            floor=best[name],
        )
        for name, one in found.items()
    }


def no_better_than_chance(
    known: Predictions | ClassPredictions | None, auc: Estimate, split: str
) -> str | None:
    """Return why a classifier's predictions carry no number, or None.

    Its AUC's interval on real cases has to lie above 0.5. Where it separates the classes without
    error DeLong's interval does not exist (and a bootstrap's has no width): then chance has to be
    that rarely so lucky, 1 in the number of ways to choose the patients with a positive case.

    Args:
        known: What it says of real cases that it has not learnt from.
        auc: Of these.
        split: Of these.
    """
    if known is None or auc.value is None:
        return f"the classifier was not measured on held-out real cases ({auc.note})"
    if auc.value == 1.0:
        luck = 1 / _ways(known)
        better = luck <= (1 - auc.level) / 2
        sure = f"by chance 1 time in {1 / luck:.0f}"
    else:
        better = auc.low is not None and auc.low > 0.5
        sure = "no interval" if auc.low is None else f"{auc.level:.0%} interval from {auc.low:.2f}"
    if better:
        return None
    return (
        f"the classifier's AUC on {len(known)} real {split} cases is {auc.value:.2f} ({sure}), not "
        "clearly above the 0.5 of chance: it carries no number"
    )


def _ways(known: Predictions | ClassPredictions) -> int:
    """Return in how many ways the patients could be dealt to the classes, by their highest class.

    Of two classes: the ways to choose the patients that have a positive case.
    """
    highest: dict[str, int] = {}
    for patient, place in zip(known.patients, known.truth.astype(int).tolist(), strict=True):
        highest[patient] = max(place, highest.get(patient, 0))
    left, ways = len(highest), 1
    for count in Counter(highest.values()).values():
        ways *= math.comb(left, count)
        left -= count
    return ways


_NOTHING_KNOWN = (
    "no labelled real case of this run's test or val split is among those that the classifier kept "
    "apart"
)
_NOTHING_ASKED = "no synthetic case has a label of the recipe's classes"


def _predictions(
    data: Data, subjects: Sequence[Subject], classifier: ClassifierPredictions, store: FeatureStore
) -> Predictions | ClassPredictions | None:
    """Return what the classifier said of labelled cases; None where there are none."""
    if not subjects:
        return None
    rows = [store.read(classifier, subject)[0].double().tolist() for subject in subjects]
    return predictions_of(
        data.classes,
        data.positive_class,
        [subject.id for subject in subjects],
        [str(subject.case.label) for subject in subjects],
        # Of two classes the last one's probability is kept alone.
        [[1.0 - row[0], row[0]] if len(row) == 1 else row for row in rows],
        patients=[subject.group for subject in subjects],
    )


def _numbers(
    settings: Evaluate,
    seed: int,
    predictions: Predictions | ClassPredictions | None,
    name: str,
    otherwise: str,
) -> dict[str, Estimate]:
    level = settings.level
    if predictions is None:
        return dict.fromkeys(NAMES, Estimate.undefined(0, otherwise, level=level))
    found = prediction_metrics(
        predictions,
        seed=seed,
        name=name,
        replicates=settings.bootstrap,
        level=level,
        wanted=NAMES,
    )
    _, counts = np.unique(predictions.truth, return_counts=True)
    constant = f"one answer for all would reach {counts.max() / counts.sum():.3g}"
    accuracy = found["accuracy"]
    return found | {"accuracy": replace(accuracy, note=joined(accuracy.note, constant))}


def _unlabelled(sets: Sets, labelled: Sequence[Subject]) -> str | None:
    left_out = len(sets.synthetic) - len(labelled)
    if not left_out:
        return None
    return (
        f"{left_out} of {len(sets.synthetic)} synthetic cases have no label of the recipe's "
        "classes and are left out"
    )
