"""Metric ``text_head``: what the model's text head says of reports, against the cases' labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import BINARY, GROUPS, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["TextHead", "voxella_factory"]

# End of the key -> among which reports, in a heading; and the group, which titles a table, too.
_AMONG = {
    "": ("", GROUPS[2]),
    "_with_report": (", reports only", GROUPS[3]),
    "_heldout": (", unseen cases", GROUPS[4]),
    "_heldout_with_report": (", unseen reports", GROUPS[5]),
}


def _declared() -> Iterator[Number]:
    for end, (among, group) in _AMONG.items():
        for name, (told, label) in BINARY.items():
            yield Number(
                f"text_{name}{end}",
                label,
                f"text {told}{among}",
                "higher",
                group,
                bounded=True,
                paper_key=name,
                same_cases=not end,
                table=group,
                row=name,
                family="text",
            )
        for name, label in (
            ("brier", "Brier score"),
            ("ece", "Calibration error"),
            ("prevalence", "Prevalence"),
        ):
            yield Number(
                f"text_{name}{end}",
                label,
                f"text {label.lower()}{among}",
                "" if name == "prevalence" else "lower",
                group,
                bounded=True,
                table=group,
                row=name,
                printed=False,
                family="text",
            )


class TextHead:
    """Accuracy, AUC and the like of the reports sampled from, and of reports never seen."""

    numbers = tuple(_declared())
    needs = frozenset({"text_head", "labels"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return ``text_*``; calibration curves, and numbers by class, are facts."""
        from voxella.evaluation.text_head import (
            predictions_of_samples,
            predictions_of_unseen,
            text_head,
            without_predictions,
        )

        recipe, sets = evidence.recipe, evidence.sets
        data, settings, seed = recipe.data, recipe.evaluate, recipe.seed
        asked = [(predictions_of_samples(data.classes, sets), sets.split, "")]
        if evidence.own and sets.unseen_split is not None:
            unseen = predictions_of_unseen(
                data,
                recipe.text,
                recipe.sample,
                recipe.latent.size,
                recipe.conditions,
                evidence.folders,
                sets,
                evidence.device,
            )
            asked.append((unseen, sets.unseen_split, "_heldout"))
        found: dict[str, Measured] = {}
        curves: dict[str, object] = {}
        by_class: dict[str, object] = {}
        for predicted, split, suffix in asked:
            if isinstance(predicted, str):
                for end in (suffix, f"{suffix}_with_report"):
                    found |= without_predictions(settings.level, predicted, split, end)
                continue
            metrics, calibration, each = text_head(data, settings, seed, predicted, split, suffix)
            found |= metrics
            curves |= calibration
            by_class |= each
        evidence.facts["calibration"] = curves
        if by_class:
            evidence.facts["one_vs_rest"] = by_class
        return found


def text_head() -> TextHead:
    """Build the metric."""
    return TextHead()


@hookimpl
def voxella_factory(name: str) -> Callable[..., TextHead] | None:
    """Return the builder of ``text_head``."""
    return text_head if name == "text_head" else None
