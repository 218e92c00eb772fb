"""The paper's numbers, and whether one of ours may stand beside them.

Only where ``comparable_with_paper`` is true of it: features of another network are another unit,
however alike the names, and procedural phantoms are other data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from voxella.recipe.model import PaperRow

__all__ = ["Published"]


@dataclass(frozen=True)
class Published:
    """A row of the paper.

    Attributes:
        row: None where the paper has no such experiment.
        differs: Why none of our numbers is comparable with it; None where some may be.
        allowed: Keys of the row that the evaluation lets stand beside numbers without a network.
    """

    row: PaperRow | None
    differs: str | None = None
    allowed: frozenset[str] = frozenset()

    def beside(self, key: str | None, entry: Mapping[str, Any]) -> tuple[float | None, str]:
        """Return the paper's number for one of ours, or None; and why not, where it has one.

        Args:
            key: Of the row.
            entry: What ``metrics.json`` has of our number.
        """
        number = None if key is None or self.row is None else getattr(self.row, key, None)
        if number is None or entry.get("value") is None:
            return None, ""
        network = entry.get("network")
        flag = entry.get("comparable_with_paper")
        if network is not None and flag is not True:
            which = "random network" if "random" in str(network) else str(network)
            return None, f"features: {which}; not comparable with the paper"
        if self.differs is not None:
            return None, f"{self.differs}; not comparable with the paper"
        if flag is not True and (flag is False or key not in self.allowed):
            return None, "not measured as in the paper; not comparable with the paper"
        return float(number), ""
