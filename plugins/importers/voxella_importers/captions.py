"""A tile's caption and class from the probabilities of tumour and of lymphocytes (PathLDM's rule).

``"{low|high} tumor; {low|high} til; {summary}"``. The released code and the paper differ in one
point, see :attr:`CaptionRule.released`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["CaptionRule", "Levels", "caption", "class_number", "levels_told"]

_CONCEPTS = ("tumor", "til")
_USUAL = {2: ("low", "high"), 3: ("low", "mid", "high"), 4: ("low", "mid", "high", "very high")}


@dataclass(frozen=True)
class CaptionRule:
    """How a probability becomes a word and a class.

    Attributes:
        names: The levels' names, from the lowest.
        thresholds: Least probability of each level but the lowest; None puts them at equal
            distances: 0.5 for two levels.
        released: Paper mode, for two levels at 0.5: a probability of exactly the threshold is high
            in a caption and low in the class, and a tile without both probabilities has the class
            4. By default one rule serves both, and such a tile has no class.
    """

    names: tuple[str, ...] = ("low", "high")
    thresholds: tuple[float, ...] | None = None
    released: bool = False

    @classmethod
    def of(
        cls, levels: int, thresholds: tuple[float, ...] | None = None, *, released: bool = False
    ) -> CaptionRule:
        """Return the rule of 2, 3 or 4 levels with their usual names."""
        names = _USUAL.get(levels, ())
        return cls(names, thresholds, released)

    def problems(self) -> list[str]:
        """Return every fault of the rule, each as one line that says what is expected."""
        found = []
        if len(self.names) not in _USUAL:
            found.append(f"levels; expected: {', '.join(str(n) for n in _USUAL)}")
            return found
        steps = self.thresholds
        if steps is not None and (
            len(steps) != len(self.names) - 1
            or list(steps) != sorted(set(steps))
            or not all(0.0 < step < 1.0 for step in steps)
        ):
            found.append(
                f"thresholds is {list(steps)}; expected: {len(self.names) - 1} rising number(s) "
                "between 0 and 1"
            )
        if self.released and (len(self.names) != 2 or self.thresholds not in (None, (0.5,))):
            found.append("released_classes goes with two levels and the threshold 0.5")
        return found

    def steps(self) -> tuple[float, ...]:
        """Return the least probability of each level but the lowest."""
        count = len(self.names)
        return self.thresholds or tuple(n / count for n in range(1, count))

    def level(self, probability: float) -> int:
        """Return the level, from 0; a probability on a threshold has the higher one.

        Raises:
            ValueError: The probability is outside 0 to 1.
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability is {probability}; expected: 0 to 1")
        return sum(probability >= step for step in self.steps())


@dataclass(frozen=True)
class Levels:
    """What a caption says; None where it says nothing."""

    tumor: str | None
    til: str | None


def caption(rule: CaptionRule, tumor: float | None, til: float | None, summary: str) -> str:
    """Return a caption; what is not known has no clause.

    Args:
        rule: Levels and thresholds.
        tumor: Probability of tumour, or None.
        til: Probability of lymphocytes, or None.
        summary: Of the report; may be empty.

    Raises:
        ValueError: A probability is outside 0 to 1.
    """
    pairs = zip(_CONCEPTS, (tumor, til), strict=True)
    parts = [f"{rule.names[rule.level(p)]} {concept}" for concept, p in pairs if p is not None]
    return "; ".join([*parts, summary.strip()] if summary.strip() else parts)


def class_number(rule: CaptionRule, tumor: float | None, til: float | None) -> int | None:
    """Return the class: level of tumour x number of levels + level of lymphocytes.

    None where a probability is not known; in paper mode that is the class 4.
    """
    count = len(rule.names)
    if tumor is None or til is None:
        return count * count if rule.released else None
    if rule.released:
        return 2 * (tumor > 0.5) + (til > 0.5)
    return count * rule.level(tumor) + rule.level(til)


def levels_told(text: str, rule: CaptionRule) -> Levels:
    """Return the levels that a caption begins with; case and spaces do not count."""
    # The longest name first: "very high" ends in "high".
    names = "|".join(re.escape(name) for name in sorted(rule.names, key=len, reverse=True))
    told: dict[str, str | None] = dict.fromkeys(_CONCEPTS)
    rest = text
    for concept in _CONCEPTS:
        found = re.match(rf"\s*({names})\s+{concept}\s*(?:;|$)", rest, re.IGNORECASE)
        if found:
            told[concept] = found.group(1).lower()
            rest = rest[found.end() :]
    return Levels(tumor=told["tumor"], til=told["til"])
