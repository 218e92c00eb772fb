"""How fast a device is: as measured here before, else its data sheet times a stated share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from voxella.forecast.cards import Card, Cards, read_cards
from voxella.plain_json import json_or_none

__all__ = ["Speed", "find_speed", "this_or_usual"]

_USUAL = "H100"


@dataclass(frozen=True)
class Speed:
    """A device's speed.

    Attributes:
        device: Its name.
        train: TFLOP/s that training reaches.
        sample: TFLOP/s that sampling, encoding and decoding reach.
        basis: Where the two come from, one line each.
    """

    device: str
    train: float
    sample: float
    basis: tuple[str, ...]


def this_or_usual() -> str:
    """Return the name of this machine's GPU, or the usual card where it has none."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else _USUAL


def find_speed(
    device: str | None, bench: Path, cards: Cards | None = None, *, option: str = "--device"
) -> Speed:
    """Return the speed of a device.

    Args:
        device: A name, or part of one, such as ``A100``; None: this machine's GPU, or the usual one
            where it has none.
        bench: Folder of what ``bench/train_step.py`` and ``bench/sample_step.py`` have written.
        cards: The table; None: the packaged one.
        option: Which a remedy names.

    Raises:
        UserError: The device is not known and nothing was measured on it.
    """
    cards = read_cards() if cards is None else cards
    wanted = device or this_or_usual()
    shares = {
        "train_step": cards.assumptions.train_share,
        "sample_step": cards.assumptions.sample_share,
    }
    basis = []
    found: dict[str, float] = {}
    for what, share in shares.items():
        measured = _measured(wanted, what, bench)
        if measured is not None:
            found[what] = float(measured["achieved_tflops"])
            where = f"{measured['device']} at size {measured.get('size', 'unknown')}"
            basis.append(f"{what}: {found[what]:g} TFLOP/s, measured on {where}")
            continue
        card: Card = cards.require(wanted, option)
        found[what] = card.tflops * share
        basis.append(
            f"{what}: ASSUMED {share:.0%} of {card.tflops:g} TFLOP/s = {found[what]:.3g} TFLOP/s; "
            f"nothing measured on {wanted} in {bench}"
        )
    return Speed(wanted, found["train_step"], found["sample_step"], tuple(basis))


def _measured(wanted: str, what: str, bench: Path) -> dict[str, Any] | None:
    """Return the benchmark of a device at the paper's size, else at any; the newest of several."""
    fitting = [
        result
        for result in _results(bench)
        if result.get("what") == what and wanted.lower() in str(result.get("device", "")).lower()
    ]
    ranked = sorted(fitting, key=lambda r: (r.get("size") == "paper", str(r.get("date", ""))))
    return ranked[-1] if ranked else None


def _results(bench: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(bench.glob("*.json")):
        loaded = json_or_none(path.read_bytes())
        if isinstance(loaded, dict) and loaded.get("achieved_tflops"):
            yield loaded
