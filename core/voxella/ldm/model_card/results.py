"""What was measured of a model's images, for its card: numbers, and whether they are copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from voxella.metrics.declared.lookup import number_of
from voxella.metrics.declared.number import Number
from voxella.metrics.estimate import told_interval, told_value

__all__ = ["copies", "results", "shown_numbers"]

_BEYOND, _SUSPECTED = "copies_beyond_chance_", "copies_share_"
Measured = Mapping[str, Any]


def shown_numbers(measured: Measured) -> list[tuple[Number, Mapping[str, Any]]]:
    """Return the declarations and values of what has a value and is for people to read."""
    found = [(number_of(key), entry) for key, entry in measured["metrics"].items()]
    return [(n, entry) for n, entry in found if n.printed and entry["value"] is not None]


def results(measured: Measured | None) -> Iterator[str]:
    """Yield the section of numbers: each with interval, N, split and the real-vs-real baseline."""
    yield "## Results"
    if measured is None:
        yield "Nothing was measured yet: `voxella evaluate` fills this in."
        return
    cases = measured["cases"]
    yield (
        f"{cases['synthetic']} synthetic cases against {cases['real']} real cases of the split "
        f"{measured['split']}. The last column is what real cases score against other real ones."
    )
    rows = ["| number | value | interval | N | split | real vs real |", "|---|---|---|---|---|---|"]
    warnings: dict[str, None] = {}
    for number, entry in shown_numbers(measured):
        floor = (entry.get("floor") or {}).get("value")
        cells = (
            f"{number.label}{f' ({number.unit})' if number.unit else ''}, `{number.key}`",
            *(told_value(entry["value"]), told_interval(entry), str(entry["n"]), entry["split"]),
            told_value(floor),
        )
        rows.append(f"| {' | '.join(cells)} |")
        if entry.get("warning"):
            warnings[str(entry["warning"])] = None
    yield "\n".join(rows)
    if not all(network["comparable_with_paper"] for network in measured["networks"]):
        yield (
            "Some features are not of the network that published numbers are of: compare within "
            "voxella alone."
        )
    if warnings:
        yield "\n".join(f"- Warning: {warning}" for warning in warnings)


def copies(measured: Measured | None) -> Iterator[str]:
    """Yield the section on copies of training cases: a verdict, and the shares behind it."""
    yield "## Copies of training cases"
    metrics = {} if measured is None else measured["metrics"]
    spaces = [key.removeprefix(_BEYOND) for key in metrics if key.startswith(_BEYOND)]
    known = [space for space in spaces if metrics[_BEYOND + space]["value"] is not None]
    if not known:
        yield "Verdict: not examined. Whether this model repeats its training cases is not known."
        return
    found = [space for space in known if metrics[_BEYOND + space]["value"] > 0]
    if found:
        yield f"Verdict: copies of training cases were found ({', '.join(found)} space)."
    else:
        yield (
            "Verdict: no image lies nearer to a training case than chance explains "
            f"({', '.join(known)} space). No evidence of copies is not proof of none."
        )
    lines = []
    for space in spaces:
        beyond, suspected = metrics[_BEYOND + space], metrics.get(_SUSPECTED + space) or {}
        if beyond["value"] is None:
            lines.append(f"- {space} space: not examined ({beyond['note']})")
            continue
        line = f"- {space} space: {_share(beyond)} of {beyond['n']} images beyond chance"
        if suspected.get("value") is not None:
            by_chance = (suspected.get("floor") or {}).get("value")
            line += f"; suspected {_share(suspected)}"
            line += "" if by_chance is None else f", of new real cases {by_chance:.1%}"
        lines.append(line)
    yield "\n".join(lines)


def _share(entry: Mapping[str, Any]) -> str:
    if entry["low"] is None:
        return f"{entry['value']:.1%} (no interval)"
    return f"{entry['value']:.1%} ({entry['low']:.1%} to {entry['high']:.1%})"
