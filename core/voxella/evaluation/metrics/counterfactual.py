"""Metric ``counterfactual``: one fact of a report changed at the same noise, as a mean change.

It sees effects that counting what a detector finds misses: a lesion that shows at a tenth of its
contrast is found in no volume, and in the mean change of two dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from voxella.detection import CHANGES
from voxella.metrics.declared.number import GROUPS, Number
from voxella.plugins.specs import hookimpl

if TYPE_CHECKING:
    from voxella.errors import UserError
    from voxella.evaluation.counterfactual.measure import Rows
    from voxella.evaluation.counterfactual.volumes import Asked
    from voxella.evaluation.evidence import SampleEvidence
    from voxella.metrics.declared.measured import Measured

__all__ = ["CounterfactualEffect", "voxella_factory"]

_TABLE = "One fact changed at the same noise"
_WORDS = {"r": "correlation with the real change", "share": "share of the real contrast"}


def _declared(fact: str, what: str) -> Number:
    return Number(
        f"counterfactual_{fact}_{what}",
        f"One fact changed, {fact}: {_WORDS[what]}",
        f"{fact} changed, {_WORDS[what]}",
        "higher",
        GROUPS[6],
        table=_TABLE,
        row=f"{fact}, {'r' if what == 'r' else 'contrast'}",
    )


class CounterfactualEffect:
    """Correlation and contrast of the mean change with the real one, for each fact."""

    numbers = tuple(_declared(fact, what) for fact in CHANGES for what in _WORDS)
    needs = frozenset({"images", "probe", "reports", "model"})

    def __init__(self) -> None:
        self._asked: Sequence[Asked] = ()
        self._made: Sequence[Rows] | UserError = ()

    def share(self, evidence: SampleEvidence) -> None:
        """Make the volumes, each process its part; collective."""
        if evidence.settings.counterfactuals == 0:
            return
        from voxella.evaluation.counterfactual.measure import asked_of, made_for

        self._asked = asked_of(evidence)
        self._made = made_for(evidence, self._asked) if self._asked else ()

    def measure(self, evidence: SampleEvidence) -> dict[str, Measured]:
        """Return ``counterfactual_*``; nothing where ``evaluate.counterfactuals`` asks for none."""
        if not self._asked:
            return {}
        from voxella.evaluation.counterfactual.measure import counterfactual

        return counterfactual(evidence, self._asked, self._made)


def counterfactual() -> CounterfactualEffect:
    """Build the metric."""
    return CounterfactualEffect()


@hookimpl
def voxella_factory(name: str) -> Callable[..., CounterfactualEffect] | None:
    """Return the builder of ``counterfactual``."""
    return counterfactual if name == "counterfactual" else None
