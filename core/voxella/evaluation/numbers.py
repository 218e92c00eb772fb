"""Every number of one data set, metric by metric, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxella.evaluation.classifier_features import ClassifierFeatures
from voxella.evaluation.evidence import SampleEvidence
from voxella.evaluation.networks import Network, kind_of
from voxella.metrics.declared.lookup import Chosen
from voxella.metrics.declared.measured import Measured, remarked
from voxella.metrics.declared.measuring import attempt_all
from voxella.progress import print_line

__all__ = ["Numbers", "all_numbers", "asked_networks", "needs_of", "share_work"]


@dataclass(frozen=True)
class Numbers:
    """What was measured of a data set.

    Attributes:
        metrics: By name.
        facts: Curves and bands, for ``metrics.json``.
    """

    metrics: dict[str, Measured] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def needs_of(metrics: Iterable[Chosen]) -> frozenset[str]:
    """Return what any of the metrics needs."""
    return frozenset().union(*(one.metric.needs for one in metrics))


def asked_networks(networks: Sequence[Network], needs: frozenset[str]) -> list[Network]:
    """Return the networks whose features a metric needs; ``features`` alone are the first's."""
    return [
        network
        for place, network in enumerate(networks)
        if f"features_{kind_of(network)}" in needs or (place == 0 and "features" in needs)
    ]


def share_work(evidence: SampleEvidence, metrics: Iterable[Chosen]) -> None:
    """Let every metric that can share its work do so; collective."""
    for one in metrics:
        share = getattr(one.metric, "share", None)
        if share is not None:
            share(evidence.given_to(one))


def all_numbers(evidence: SampleEvidence, metrics: Iterable[Chosen]) -> Numbers:
    """Measure one data set whose volumes have been looked at; on one process.

    Args:
        evidence: The data set.
        metrics: What is to be measured of it.

    Raises:
        UserError: A metric returns a number that it has not declared.
    """
    found = Numbers(facts=evidence.facts)
    remarks = _remarks(evidence)
    for one in metrics:
        print_line(f"evaluate: {one.name.replace('_', ' ')}")
        measured = attempt_all(
            one,
            evidence.given_to(one),
            n=evidence.sets.n,
            level=evidence.level,
            split=evidence.split,
        )
        for key, number in measured.items():
            remark = remarks.get(number.network or "")
            found.metrics.update(remarked({key: number}, remark))
    return found


def _remarks(evidence: SampleEvidence) -> dict[str, str]:
    """Return by network what its numbers must not be read without."""
    told = {
        network.name: network.remark(evidence.sets.real)
        for network, _ in evidence.plan.networks
        if isinstance(network, ClassifierFeatures)
    }
    return {name: remark for name, remark in told.items() if remark is not None}
