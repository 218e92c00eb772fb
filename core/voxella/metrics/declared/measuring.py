"""A chosen metric at work: what it finds, or why it refuses; nothing that it has not declared."""

from __future__ import annotations

from collections.abc import Mapping

from voxella.errors import UserError
from voxella.metrics.declared.lookup import Chosen
from voxella.metrics.declared.measured import Measured, NoNumberError, reason
from voxella.metrics.estimate import Estimate

__all__ = ["attempt_all"]


def attempt_all(
    one: Chosen,
    evidence: object,
    *,
    n: int,
    level: float,
    split: str,
) -> Mapping[str, Measured]:
    """Return the numbers of a metric; where it refuses, all of them without a value.

    Args:
        one: The metric.
        evidence: What it is given.
        n: Independent units, where it refuses.
        level: Coverage, where it refuses.
        split: Of the cases, where it refuses.

    Raises:
        UserError: It returns a number that it has not declared.
    """
    declared = [number.key for number in one.metric.numbers]
    try:
        found: Mapping[str, Measured] = one.metric.measure(evidence)
    except NoNumberError as refusal:
        nothing = Estimate.undefined(n, reason(refusal), level=level)
        return dict.fromkeys(declared, Measured(nothing, split))
    unknown = sorted(set(found) - set(declared))
    if unknown:
        raise UserError(
            f"metrics: {one.name}: it returned {', '.join(unknown)}, which it does not declare",
            expected=", ".join(declared),
        )
    return found
