"""Our training and sampling steps beside the same model the plain published way.

    make bench        (python bench/side_by_side.py --json bench/results/side_by_side-cpu.json)

Each side is a process of its own, and they take steps in turn, so that a busy machine slows both.
At narrow widths all sides live at once. At the paper's widths (575 M parameters) they live one
after the other, two rounds of it, and only where memory allows. Ratios are of CPU seconds, by the
median of paired steps; wall seconds stand beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch
from device_peak import describe_device
from result import publish

from voxella.engine.processor.speed import bfloat16_gain

_SIDES = ("reference", "ours", "ours_bf16")
# A training of the plain way at the paper's widths, and what the rest of the machine needs.
_PAPER_GIB = 13.0
__all__ = ["summary"]

Told = dict[str, float]


class _Side:
    """A side's process."""

    def __init__(self, side: str, work: str, words: list[str]) -> None:
        script = Path(__file__).with_name("side.py")
        self.command = [sys.executable, str(script), "--side", side, "--work", work, *words]
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.facts: Told = self._answer()
        self.steps: list[Told] = []

    def step(self) -> None:
        self._ask("step")
        self.steps.append(self._answer())

    def end(self) -> None:
        self._ask("end")
        self.facts |= self._answer()
        self.process.wait(timeout=60)

    def _ask(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def _answer(self) -> Told:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended early; see: {' '.join(self.command)}")
        answer: Told = json.loads(line)
        return answer


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measured = {}
    for work in ("train", "sample"):
        narrow = ["--size", "small", "--batch", "2", "--narrow"]
        measured[f"{work}_narrow"] = _at_once(work, narrow, arguments.steps)
        free = psutil.virtual_memory().available / 2**30
        if not arguments.paper:
            continue
        if free < _PAPER_GIB:
            measured[f"{work}_paper"] = {"left_out": f"{free:.1f} GiB free of {_PAPER_GIB}"}
            continue
        paper = ["--size", "small", "--batch", "1"]
        measured[f"{work}_paper"] = _in_turn(work, paper, rounds=2, steps=2)
    result = {
        "what": "side_by_side",
        "device": describe_device(device),
        "weights": "random, the same on every side",
        "bfloat16_gain": round(bfloat16_gain(), 2),
        **measured,
    }
    publish(result, arguments.json)


def _at_once(work: str, words: list[str], steps: int) -> dict[str, Any]:
    sides = {name: _Side(name, work, words) for name in _SIDES}
    for _ in range(steps):
        for side in sides.values():
            side.step()
    for side in sides.values():
        side.end()
    return summary({name: [side] for name, side in sides.items()})


def _in_turn(work: str, words: list[str], *, rounds: int, steps: int) -> dict[str, Any]:
    lived: dict[str, list[_Side]] = {name: [] for name in _SIDES}
    for _ in range(rounds):
        for name, past in lived.items():
            side = _Side(name, work, words)
            for _ in range(steps):
                side.step()
            side.end()
            past.append(side)
    return summary(lived)


def summary(lived: dict[str, list[_Side]]) -> dict[str, Any]:
    """Return medians and ratios; above 1 ours is the faster."""
    steps = {name: [step for side in past for step in side.steps] for name, past in lived.items()}
    told: dict[str, Any] = {"parameters": int(lived["reference"][0].facts["parameters"])}
    for name, past in lived.items():
        facts = {key: max(side.facts[key] for side in past) for key in past[0].facts}
        held = facts["states_gib"] + facts["activations_gib"]
        told[name] = {
            "cpu_seconds": round(statistics.median(s["cpu"] for s in steps[name]), 3),
            "wall_seconds": round(statistics.median(s["wall"] for s in steps[name]), 3),
            "steps": len(steps[name]),
            "last_value": round(steps[name][-1]["value"], 6),
            "peak_gib": round(facts["peak_gib"], 2),
            "states_gib": round(facts["states_gib"], 2),
            "activations_gib": round(facts["activations_gib"], 2),
            "libraries_gib": round(facts["libraries_gib"], 2),
            "over_account": round((facts["peak_gib"] - facts["libraries_gib"]) / held, 3),
        }
    for name in _SIDES[1:]:
        pairs = zip(steps["reference"], steps[name], strict=True)
        ratios = sorted(plain["cpu"] / mine["cpu"] for plain, mine in pairs)
        told[name]["times_as_fast"] = round(statistics.median(ratios), 2)
        told[name]["from_to"] = [round(ratios[0], 2), round(ratios[-1], 2)]
        told[name]["of_its_peak"] = round(told[name]["peak_gib"] / told["reference"]["peak_gib"], 2)
    return told


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=9, help="of each side, at narrow widths")
    parser.add_argument("--paper", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path, help="keep the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
