"""Legends: text that explains the PI-RADS scale, printed below many reports, and states nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from voxella.check.pirads.mentions import Mention

__all__ = ["Legends", "find_legends"]

# Characters between one entry of a legend and the next.
_GAP = 250
_ENTRY = re.compile(
    r"(?:(?<=[\n(,;.·|/])|(?<=[\n(,;.·|/]\s))([1-5])\s?[=:\u2013\u2014(-]\s?(?=[^\W\d_])"
)


# Right before an entry: the beginning of a line, a sentence or a cell.
_LEADS = re.compile(r"(?:^|[\n.;|])[\s\u2022*-]{0,8}$")


@dataclass(frozen=True)
class Legends:
    """Which mentions belong to a legend.

    Attributes:
        entries: Indices of mentions that are entries of a whole scale, from 1 up to 5, each at the
            beginning of a line, a sentence or a cell.
        maybe: Indices of mentions that rise like a legend's, three or more in a row, or that fall
            from 5 to 1. Other falling ones are rather lesions: the worst is described first.
    """

    entries: frozenset[int]
    maybe: frozenset[int]


@dataclass(frozen=True)
class _Item:
    start: int
    end: int
    low: int
    high: int
    mention: int | None


def find_legends(text: str, mentions: Sequence[Mention]) -> Legends:
    """Find legends: scores that rise or fall strictly, close to each other.

    Either all entries name PI-RADS ("PI-RADS 1: very low. PI-RADS 2: low. ..."), or the first does
    and the others are bare ("PI-RADS 1 = very low, 2 = low, ...").
    """
    named = [
        _Item(m.start, m.end, min(values), max(values), index)
        for index, m in enumerate(mentions)
        if (values := [score.value for score in m.scores])
    ]
    taken = {score.start for m in mentions for score in m.scores}
    bare = [
        _Item(match.start(1), match.end(1), int(match[1]), int(match[1]), None)
        for match in _ENTRY.finditer(text)
        if match.start(1) not in taken
    ]
    entries: set[int] = set()
    maybe: set[int] = set()
    for run in [*_runs(named, 1), *_runs(named, -1), *_mixed_runs(named, bare)]:
        members = {item.mention for item in run if item.mention is not None}
        covered = {value for item in run for value in (item.low, item.high)}
        rising = run[-1].low > run[0].low
        whole = {1, 5} <= covered and len(covered) >= 4
        alone = len(members) == 1 or all(
            _LEADS.search(text, max(0, item.start - 10), item.start) for item in run
        )
        if whole and rising and alone:
            entries |= members
        elif whole or (rising and len(run) >= 3):
            maybe |= members
    return Legends(frozenset(entries), frozenset(maybe - entries))


def _mixed_runs(named: Sequence[_Item], bare: Sequence[_Item]) -> list[list[_Item]]:
    """Return runs of a mention followed by bare entries."""
    found: list[list[_Item]] = []
    for first in named:
        near = [item for item in bare if first.end <= item.start <= first.end + 5 * _GAP]
        found += [run for run in _runs([first, *near], 1) if run[0] is first]
    return found


def _runs(items: Sequence[_Item], sign: int) -> list[list[_Item]]:
    """Return the longest runs that rise strictly (sign 1) or fall strictly (-1)."""
    runs: list[list[_Item]] = []
    for item in items:
        last = runs[-1][-1] if runs else None
        follows = last is not None and item.start - last.end <= _GAP
        if last is not None and follows and _step(last, item, sign) > 0:
            runs[-1].append(item)
        else:
            runs.append([item])
    return runs


def _step(last: _Item, item: _Item, sign: int) -> int:
    return item.low - last.high if sign > 0 else last.low - item.high
