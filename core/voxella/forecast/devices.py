"""How fast a device is: as measured here before, else its data sheet times a stated share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from voxella.errors import UserError
from voxella.plain_json import json_or_none
from voxella.recipe.shape import nearest

__all__ = ["DEVICES", "Speed", "find_speed"]

# Dense matrix products in bfloat16 (V100: float16), TFLOP/s, from the vendor's data sheets.
DEVICES: dict[str, float] = {
    "V100": 125.0,
    "A100": 312.0,
    "L40S": 362.0,
    "H100": 989.0,
    "H200": 989.0,
    "RTX 3090": 71.0,
    "RTX 4090": 165.0,
}
_USUAL = "H100"
# What 3D convolutions reach of such a peak. Sampling: the released code's 57 s for 1,000 steps of
# one volume on an A100 are 0.06. Training has larger batches; 0.12 is a guess to be replaced by
# `python bench/train_step.py --json bench/results/NAME.json` on the device.
_SHARES = {"train_step": 0.12, "sample_step": 0.06}


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


def find_speed(device: str | None, bench: Path) -> Speed:
    """Return the speed of a device.

    Args:
        device: A name, or part of one, such as ``A100``; None: this machine's GPU, or the usual one
            where it has none.
        bench: Folder of what ``bench/train_step.py`` and ``bench/sample_step.py`` have written.

    Raises:
        UserError: The device is not known and nothing was measured on it.
    """
    here = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    wanted = device or here or _USUAL
    basis = []
    found: dict[str, float] = {}
    for what, share in _SHARES.items():
        measured = _measured(wanted, what, bench)
        if measured is not None:
            found[what] = float(measured["achieved_tflops"])
            where = f"{measured['device']} at size {measured.get('size', 'unknown')}"
            basis.append(f"{what}: {found[what]:g} TFLOP/s, measured on {where}")
            continue
        peak = _peak(wanted, device or here)
        found[what] = peak * share
        basis.append(
            f"{what}: ASSUMED {share:.0%} of {peak:g} TFLOP/s = {found[what]:.3g} TFLOP/s; nothing "
            f"measured on {wanted} in {bench}"
        )
    return Speed(wanted, found["train_step"], found["sample_step"], tuple(basis))


def _peak(wanted: str, asked: str | None) -> float:
    for name, peak in DEVICES.items():
        if name.lower() in wanted.lower():
            return peak
    close = nearest(wanted, DEVICES)
    raise UserError(
        f"the speed of {asked} is not known",
        expected=f"{', '.join(DEVICES)}, or a device that bench/train_step.py has measured",
        remedy=None if close is None else f"--device '{close}'",
    )


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
