"""Random numbers that depend on what they are for, never on when they are drawn."""

from __future__ import annotations

import hashlib
import math

import numpy as np

__all__ = ["fraction", "in_share", "stream"]

# One irrational per question, independent of each other over the rationals, so that the answers to
# two questions about the same case do not go together.
_IRRATIONALS = {"positive": 5, "missing_report": 2, "label_noise": 3, "oblique": 7}


def _digest(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()


def stream(seed: int, *names: str) -> np.random.Generator:
    """Return the generator that belongs to (seed, names): the same wherever it is asked for."""
    return np.random.default_rng(int.from_bytes(_digest(seed, *names)[:16], "big"))


def fraction(seed: int, *names: str) -> float:
    """Return a number in [0, 1) that is fixed by (seed, names)."""
    return int.from_bytes(_digest(seed, *names)[:8], "big") / 2.0**64


def in_share(seed: int, question: str, index: int, share: float) -> bool:
    """Tell whether case ``index`` is among the ``share`` of cases a question selects.

    A Weyl sequence, ``frac(offset + index * sqrt(n))``: its discrepancy falls as log(N) / N, so
    even a few dozen cases hold close to the share that was asked for, which independent coins do
    not, and the answer for a case does not depend on how many others there are.
    """
    offset = fraction(seed, "share", question)
    return math.fmod(offset + index * math.sqrt(_IRRATIONALS[question]), 1.0) < share
