"""A number of the evaluation with all that it must not be read without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.metrics.estimate import Estimate, joined

__all__ = ["Measured", "NoNumberError", "attempt", "reason", "remarked"]


class NoNumberError(UserError):
    """Raised by a metric: these cases have none of its numbers; the message stands in their place.

    Any other error stops the evaluation: a damaged file is no property of the cases.
    """


@dataclass(frozen=True)
class Measured:
    """One number.

    Attributes:
        estimate: Value, interval, N, how, or None and why.
        split: The real cases it was computed on or against.
        network: Whose features; None where no network takes part.
        comparable_with_paper: Whether that is the paper's network.
        floor: Real cases against other real ones; None where that does not exist.
    """

    estimate: Estimate
    split: str
    network: str | None = None
    comparable_with_paper: bool = False
    floor: Estimate | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the number as ``metrics.json`` keeps it."""
        found = {**self.estimate.as_json(), "split": self.split}
        if self.network is not None:
            found |= {
                "network": self.network,
                "comparable_with_paper": self.comparable_with_paper,
            }
        if self.floor is not None:
            found["floor"] = self.floor.as_json()
        return found


def attempt(compute: Callable[[], Estimate], *, n: int, level: float) -> Estimate:
    """Return what ``compute`` finds, or why it refuses: never silently nothing."""
    try:
        return compute()
    except UserError as refusal:
        return Estimate.undefined(n, reason(refusal), level=level)


def remarked(found: Mapping[str, Measured], remark: str | None) -> dict[str, Measured]:
    """Return the numbers with a remark in front of each one's note."""
    return {
        name: replace(one, estimate=replace(one.estimate, note=joined(remark, one.estimate.note)))
        for name, one in found.items()
    }


def reason(refusal: UserError) -> str:
    """Return a refusal as one line, which stands in the place of a number.

    Raises:
        OSError: It is the machine that refuses: what is not known then will be known later.
    """
    raise_if_machine(refusal)
    expected = f" (expected: {refusal.expected})" if refusal.expected else ""
    remedy = f"; {refusal.remedy}" if refusal.remedy else ""
    return " ".join(f"{refusal.problem}{expected}{remedy}".split())
