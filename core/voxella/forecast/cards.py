"""The table of cards: memory, speed, and what is assumed of them. Users may bring their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxella.errors import UserError
from voxella.recipe.shape import nearest
from voxella.recipe.yaml_lines import plain, read_yaml, shown

__all__ = ["TABLE", "Assumptions", "Card", "Cards", "read_cards"]

TABLE = Path(__file__).with_name("cards.yaml")
_GIB = 2**30
_Share = Annotated[float, Field(gt=0, le=1)]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Assumptions(_Row):
    """What holds for all cards until it is measured on one.

    Attributes:
        train_share: Of the matrix peak that training reaches.
        sample_share: Of the matrix peak that sampling, encoding and decoding reach.
        reserved_gib: Memory of the driver and the libraries.
        usable_share: Of the rest that tensors can fill.
        scaling_share: Of N times the speed that N cards reach.
    """

    train_share: _Share
    sample_share: _Share
    reserved_gib: float = Field(ge=0)
    usable_share: _Share
    scaling_share: _Share


class _Entry(_Row):
    memory_gib: float = Field(gt=0)
    tflops: float = Field(gt=0)
    bfloat16: bool = True


@dataclass(frozen=True)
class Card:
    """One card.

    Attributes:
        name: As in the table.
        memory_gib: As the driver counts it.
        tflops: Dense matrix products in bfloat16, or in float16 where it has none.
        bfloat16: Whether it has it.
    """

    name: str
    memory_gib: float
    tflops: float
    bfloat16: bool


@dataclass(frozen=True)
class Cards:
    """The table.

    Attributes:
        cards: By name, in the file's order.
        assumptions: Of all of them.
        source: The file, as a user would write it.
    """

    cards: dict[str, Card]
    assumptions: Assumptions
    source: str

    def find(self, name: str) -> Card | None:
        """Return the card that a device's or a user's name means: the longest name within it."""
        exact = [card for card in self.cards if card.lower() == name.lower()]
        # As whole words: an H100X is no H100.
        inside = [
            card
            for card in self.cards
            if re.search(rf"(?<![a-z0-9]){re.escape(card)}(?![a-z0-9])", name, re.IGNORECASE)
        ]
        found = exact or sorted(inside, key=len, reverse=True)
        return self.cards[found[0]] if found else None

    def require(self, name: str, option: str = "--card") -> Card:
        """Return a card by its name.

        Raises:
            UserError: It is not in the table.
        """
        card = self.find(name)
        if card is None:
            close = nearest(name, self.cards)
            raise UserError(
                f"the speed of {name} is not known",
                expected=f"{', '.join(self.cards)}, or a card of your own table: --cards FILE "
                f"(copy {TABLE})",
                remedy=None if close is None else f"{option} '{close}'",
            )
        return card

    def usable_bytes(self, memory_gib: float) -> int:
        """Return what tensors can fill of a memory."""
        own = self.assumptions
        return int(max(0.0, memory_gib - own.reserved_gib) * own.usable_share * _GIB)


def read_cards(path: Path | None = None) -> Cards:
    """Read the table, the packaged one where no other is named.

    Raises:
        UserError: It cannot be read, or is no such table: all that is wrong with it.
    """
    path = TABLE if path is None else Path(path)
    told: Any = plain(read_yaml(path.absolute()))
    source = "the packaged table of cards" if path == TABLE else shown(path)
    if not isinstance(told, dict) or set(told) != {"assumptions", "cards"} or not told["cards"]:
        raise UserError(f"{source} is no table of cards", expected="assumptions and cards")
    rows = told["cards"]
    problems: list[str] = []
    cards: dict[str, Card] = {}
    for name, row in rows.items() if isinstance(rows, dict) else []:
        try:
            entry = _Entry.model_validate(row)
        except ValidationError as error:
            problems += _told(error, f"cards.{name}")
        else:
            cards[name] = Card(name, entry.memory_gib, entry.tflops, entry.bfloat16)
    try:
        assumptions = Assumptions.model_validate(told["assumptions"])
    except ValidationError as error:
        problems += _told(error, "assumptions")
    if problems or not cards:
        raise UserError(
            f"{source}: " + ("\n  ".join(problems) or "cards names none"),
            expected=f"what {TABLE.name} has: {TABLE}",
        )
    return Cards(cards, assumptions, source)


def _told(error: ValidationError, where: str) -> list[str]:
    return [
        f"{'.'.join([where, *map(str, one['loc'])])}: {one['msg']}"
        for one in error.errors(include_input=False, include_url=False)
    ]
