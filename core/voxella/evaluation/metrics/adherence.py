"""Metrics ``adherence`` and ``label_agreement``: do volumes show what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voxella.metrics.declared.number import BINARY, GROUPS, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["Adherence", "LabelAgreement", "voxella_factory"]

# As `voxella.metrics.adherence.FACTS` has them, in words.
_FACTS = ("presence", "presence_sensitivity", "presence_specificity", "side", "zone", "size")
# As `voxella.metrics.adherence.LEVELS` has them.
_LEVELS = {"tumor": "level of tumour", "til": "level of lymphocytes"}
_AFTER = "Real cases after the autoencoder alone"


def _declared(start: str, what: str, label: str, heading: str, *, table: str = "") -> Number:
    return Number(
        f"{start}{what}",
        label,
        heading,
        "higher",
        GROUPS[6],
        bounded=True,
        table=table,
        row=what if table else "",
    )


def _of_report() -> list[Number]:
    words = {fact: fact.replace("_", " ") for fact in _FACTS} | _LEVELS
    return [
        _declared("adherence_", fact, f"As the report says, {told}", f"adherence, {told}")
        for fact, told in words.items()
    ] + [
        _declared(
            "adherence_reconstructed_",
            fact,
            f"{_AFTER}, {told}",
            f"real cases after the autoencoder, {told}",
            table=_AFTER,
        )
        for fact, told in words.items()
    ]


class Adherence:
    """What the reports tell of, as a probe sees it in volumes made from them."""

    numbers = tuple(_of_report())
    needs = frozenset({"images", "probe", "reconstructions"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return ``adherence_*``; nothing where no probe knows the real cases."""
        from voxella.autoencoder.load import AutoencoderPlan
        from voxella.evaluation.adherence import AdherenceSettings, adherence

        recipe = evidence.recipe
        plan, reads = AutoencoderPlan.of(recipe), recipe.text is not None
        channel, count = evidence.plan.channel, evidence.plan.count
        asked = AdherenceSettings(evidence.settings, evidence.seed, channel, reads, plan, count)
        return adherence(asked, evidence.folders, evidence.sets, evidence.device)


class LabelAgreement:
    """Whether a classifier of real images sees the label that a volume was made for."""

    numbers = tuple(
        _declared(
            "adherence_label_",
            name,
            "Its label, to a classifier of real images, "
            + (name if name != "auc" else BINARY[name][1]),
            f"label seen by a classifier, {BINARY[name][0]}",
        )
        for name in ("accuracy", "auc", "sensitivity", "specificity")
    )
    needs = frozenset({"classifier", "labels"})

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return ``adherence_label_*``; nothing where the recipe names no classifier."""
        from voxella.evaluation.label_agreement import label_agreement

        plan = evidence.plan
        if plan.classifier is None:
            return {}
        evidence.facts["classifier"] = plan.classifier.kept.told()
        stores = (plan.real_store, plan.synthetic_store)
        data, settings, seed = evidence.recipe.data, evidence.settings, evidence.seed
        return label_agreement(data, settings, seed, evidence.sets, plan.classifier, *stores)


def adherence() -> Adherence:
    """Build the metric."""
    return Adherence()


def label_agreement() -> LabelAgreement:
    """Build the metric."""
    return LabelAgreement()


@hookimpl
def voxella_factory(name: str) -> Callable[..., Adherence | LabelAgreement] | None:
    """Return the builder of one of the two."""
    builders: dict[str, Callable[..., Adherence | LabelAgreement]] = {
        "adherence": adherence,
        "label_agreement": label_agreement,
    }
    return builders.get(name)
