"""Block ``conditions``: how what a case is known by, a number or a word, becomes a tensor.

::

    conditions:
      age: {kind: number, range: [40, 90]}
      scanner: {kind: category, values: [skyra, prisma]}

A number becomes two: its place in the range, from -1 to 1, and 1 for "known". A category becomes
one per value, 1 where it is the case's. What is missing is all zeros in both.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from voxella.case import ConditionValue
from voxella.recipe.block import Block, Label
from voxella.wording import quoted

__all__ = ["RESERVED", "Condition", "ConditionName", "Missing", "Vector"]

# Names with a meaning of their own among what a conditioner is called with.
RESERVED = frozenset(
    {"text", "text_features", "text_mask", "label", "spacing", "class", "timesteps", "conditions"}
)
_LONGEST = 64
Missing = Literal["zero-with-flag", "refuse"]


def _name(name: str) -> str:
    # It is the name of an argument.
    if not name.isidentifier() or not name.isascii() or len(name) > _LONGEST:
        raise ValueError(
            f"received {quoted(name)}; expected: letters, digits and _, at most {_LONGEST} "
            "characters"
        )
    if name in RESERVED:
        raise ValueError(f"{name} has a meaning of its own; expected: another name")
    return name


ConditionName = Annotated[str, AfterValidator(_name)]


class Condition(Block):
    """One thing that a model is conditioned on, read from ``Case.conditions`` by its name."""

    kind: Literal["number", "category"]
    range: list[float] | None = Field(
        None, min_length=2, max_length=2, description="of a number: what becomes -1 and 1"
    )
    values: list[float | Label] | None = Field(
        None, min_length=1, max_length=1000, description="of a category: the words, in order"
    )
    missing: Missing = Field(
        "zero-with-flag",
        description="zero-with-flag: zeros stand for a case of which it is not known; "
        "refuse: every case and prompt has to say it",
    )
    outside: Literal["refuse", "clip", "missing"] = Field(
        "refuse",
        description="what a number out of its range, or another word, is: refused; the range's "
        "nearest end (numbers only); or as if it were not known",
    )

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Condition:
        number = self.kind == "number"
        if number and (self.range is None or self.values is not None):
            raise ValueError("a number has a range, such as [40, 90], and no values")
        if not number and (self.values is None or self.range is not None):
            raise ValueError("a category has values, such as [skyra, prisma], and no range")
        if self.range is not None and not self.range[0] < self.range[1]:
            low, high = self.range
            raise ValueError(f"range: received {low:g}, {high:g}; expected: low < high")
        if self.values is not None and len(set(self.words)) < len(self.values):
            raise ValueError("a value is duplicated")
        if not number and self.outside == "clip":
            raise ValueError(
                "outside: a category has no ends to clip to; expected: refuse, missing"
            )
        return self

    @property
    def width(self) -> int:
        """Return how many numbers a value becomes."""
        return 2 if self.values is None else len(self.values)

    @property
    def words(self) -> list[str]:
        """Return a category's values as words; none of a number."""
        return [_word(value) for value in self.values or ()]

    @property
    def expected(self) -> str:
        """Return what a value may be, for messages."""
        if self.range is not None:
            return f"a number from {self.range[0]:g} to {self.range[1]:g}"
        return f"one of {', '.join(self.words)}"

    def is_missing(self, value: ConditionValue) -> bool:
        """Return whether a value counts as not known, by itself or because it is outside."""
        return value in (None, "") or (self.outside == "missing" and not self._is_inside(value))

    def problem(self, value: ConditionValue) -> str | None:
        """Return why a value cannot be taken, or None; the value is not quoted."""
        if self.is_missing(value):
            told = (
                "is missing" if value in (None, "") else f"is not {self.expected}, so it is missing"
            )
            return f"{told}, and missing: refuse" if self.missing == "refuse" else None
        if self.range is not None and isinstance(value, str):
            return "is a word, not a number"
        inside = self._is_inside(value) or self.outside == "clip"
        return None if inside else f"is not {self.expected}"

    def encode(self, value: ConditionValue) -> list[float]:
        """Return the :attr:`width` numbers of a value that has no :meth:`problem`."""
        if value is None or self.is_missing(value):
            return [0.0] * self.width
        if self.range is None:
            return [float(word == _word(value)) for word in self.words]
        low, high = self.range
        place = 2.0 * (float(value) - low) / (high - low) - 1.0
        return [min(max(place, -1.0), 1.0), 1.0]

    def _is_inside(self, value: ConditionValue) -> bool:
        if value is None:
            return False
        if self.range is None:
            return _word(value) in self.words
        return not isinstance(value, str) and self.range[0] <= value <= self.range[1]


def _word(value: float | str) -> str:
    """Return a value as a category's: 3, 3.0 and "3" are one."""
    return value if isinstance(value, str) else f"{value:g}"


class Vector(Block):
    """One vector joined to the timestep embedding; the list's order is the order of joining."""

    name: str
    scale: float = 100.0
