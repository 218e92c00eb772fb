"""What simple models make of the same images: a network that is no better has learnt little.

scikit-learn's logistic regression and nearest neighbours on coarse images: means over a small grid.
They see the last phase's training cases; `val` chooses their one setting; `test` is looked at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from voxella.classification.examples import Example, Examples
from voxella.classification.outcome import seed_metrics
from voxella.classification.predict import Prediction, as_predictions
from voxella.classification.store import InputStore
from voxella.metrics.estimate import Estimate
from voxella.metrics.multiclass import auc_of
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data

__all__ = ["measure_baselines"]

# Voxels of the coarse image along each axis, at most.
_GRID = (8, 8, 4)
# The inverse of logistic regression's penalty, and numbers of neighbours: what `val` chooses from.
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_NEIGHBOURS = (1, 3, 5, 9, 15, 25)
_ONE_CLASS = "its training cases are of one class"

Matrix = NDArray[np.float64]


def measure_baselines(
    baselines: Sequence[str],
    data: Data,
    settings: Evaluate,
    seed: int,
    name: str,
    examples: Examples,
    store: InputStore,
) -> dict[str, Any]:
    """Return each baseline's numbers on the test cases, JSON-ready, by its name in the recipe.

    Args:
        baselines: ``classify.baselines``, by name.
        data: The classes.
        settings: How sure the numbers are to be.
        seed: Of every draw.
        name: The recipe's.
        examples: The images.
        store: Their inputs.
    """
    if not baselines:
        return {}
    _, training = examples.phases[-1]
    sets = {"train": training, "val": examples.val, "test": examples.test}
    features = {name: _features(cases, store) for name, cases in sets.items()}
    targets = [training[case_id].target for case_id in sorted(training)]
    found: dict[str, Any] = {}
    for baseline in baselines:
        chosen, test = None, None
        if len(set(targets)) > 1:
            chosen, model = _chosen(data, baseline, features, targets, examples.val)
            test = _predictions(data, examples.test, model, features["test"])
        found[baseline] = {
            "chosen": chosen,
            "features": int(features["train"].shape[1]),
            "metrics": _numbers(
                settings,
                seed,
                f"{name}/baseline/{baseline}",
                test,
                chosen,
                len(examples.test),
            ),
        }
    return found


def _numbers(
    settings: Evaluate,
    seed: int,
    name: str,
    test: Predictions | ClassPredictions | None,
    chosen: dict[str, Any] | None,
    count: int,
) -> dict[str, Any]:
    numbers = seed_metrics(test, settings, seed=seed, name=name)
    if chosen is None:
        nothing = Estimate.undefined(count, _ONE_CLASS, level=settings.level)
        numbers = dict.fromkeys(numbers, nothing)
    return {metric: {**found.as_json(), "split": "test"} for metric, found in numbers.items()}


def _chosen(
    data: Data,
    name: str,
    features: Mapping[str, Matrix],
    targets: Sequence[int],
    val: Mapping[str, Example],
) -> tuple[dict[str, Any], Any]:
    """Return the setting with the highest AUC on `val`, the first of equals, and its model."""
    best: tuple[float, dict[str, Any], Any] | None = None
    for setting, model in _CANDIDATES[name](len(targets)):
        model.fit(features["train"], targets)
        predictions = _predictions(data, val, model, features["val"])
        auc = None if predictions is None else auc_of(predictions)
        # Without every class in `val` nothing can be chosen, and the first is taken.
        worth = -1.0 if auc is None else auc
        if best is None or worth > best[0]:
            best = worth, setting, model
    assert best is not None, "every baseline has candidates"
    worth, setting, model = best
    return {**setting, "val_auc": worth if worth >= 0 else None}, model


def _predictions(
    data: Data,
    cases: Mapping[str, Example],
    model: Any,  # noqa: ANN401 - scikit-learn has no types
    features: Matrix,
) -> Predictions | ClassPredictions | None:
    """Return what a model says of some cases; of a class it has not seen, 0."""
    if not cases:
        return None
    likely = np.zeros((len(cases), len(data.classes)))
    likely[:, model.classes_] = model.predict_proba(features)
    rows = zip(sorted(cases), likely.clip(0, 1).tolist(), strict=True)
    # The loss of a training is no number of a baseline.
    predicted = {case_id: Prediction(tuple(row), math.nan) for case_id, row in rows}
    return as_predictions(cases, predicted, data.classes, data.positive_class)


def _features(cases: Mapping[str, Example], store: InputStore) -> Matrix:
    """Return ``(N, F)``, rows sorted by id: each image's means over a small grid."""
    rows = []
    for case_id in sorted(cases):
        image, _ = store.read(cases[case_id])
        size = [min(n, most) for n, most in zip(image.shape[1:], _GRID, strict=False)]
        pool = nn.AdaptiveAvgPool3d if len(size) == 3 else nn.AdaptiveAvgPool2d
        rows.append(pool(tuple(size))(image).flatten().numpy())
    return np.stack(rows).astype(np.float64) if rows else np.empty((0, 0))


def _logistic(cases: int) -> list[tuple[dict[str, Any], Any]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        ({"C": c}, make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)))
        for c in _PENALTIES
    ]


def _neighbours(cases: int) -> list[tuple[dict[str, Any], Any]]:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return [
        ({"neighbours": k}, make_pipeline(StandardScaler(), KNeighborsClassifier(k)))
        for k in _NEIGHBOURS
        if k <= cases
    ]


_CANDIDATES: dict[str, Callable[[int], list[tuple[dict[str, Any], Any]]]] = {
    "logistic": _logistic,
    "neighbours": _neighbours,
}
