"""Metric ``downstream``: what a trained classifier is worth on the test cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import BINARY, Number, statistic_of
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.metrics.declared.contract import Predicted
    from voxella.metrics.declared.measured import Measured

__all__ = ["PERCENT_POSITIVE", "Downstream", "voxella_factory"]

# In the order of metrics.json.
_KEYS = ("auc", "ap", "accuracy", "sensitivity", "specificity", "ppv", "npv")
# Of the training set, not of predictions: the stage counts it.
PERCENT_POSITIVE = "percent_positive"


class Downstream:
    """AUC, average precision, accuracy and the like of one training."""

    numbers = (
        *(
            Number(key, label, told, "higher", bounded=True, paper_key=key, family="downstream")
            for key, (told, label) in BINARY.items()
        ),
        Number(
            PERCENT_POSITIVE,
            "Positive in the training set, %",
            "% positive",
            "",
            unit="%",
            paper_key=PERCENT_POSITIVE,
            paper_split="train",
        ),
    )
    needs = frozenset({"predictions"})

    def measure(self, evidence: Predicted) -> dict[str, Measured]:
        """Return every number but the share of positives."""
        from voxella.metrics.declared.measured import Measured
        from voxella.metrics.multiclass import prediction_metrics

        found = prediction_metrics(
            evidence.test,
            seed=evidence.seed,
            name=evidence.name,
            replicates=evidence.replicates,
            level=evidence.level,
        )
        return {key: Measured(found[statistic_of(key)], "test") for key in _KEYS}


def downstream() -> Downstream:
    """Build the metric."""
    return Downstream()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Downstream] | None:
    """Return the builder of ``downstream``."""
    return downstream if name == "downstream" else None
