"""Splits by patient, the same on every machine and for every order of the cases."""

from __future__ import annotations

import hashlib

from voxella.case import Split

__all__ = ["check_shares", "split_of"]


def split_of(patient: str, *, seed: int, val_share: float, test_share: float) -> Split:
    """Return a patient's split, from a hash of seed and patient.

    A patient stays where it is when others join or leave; in return the shares are met on average,
    not exactly.
    """
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


def check_shares(val_share: float, test_share: float) -> list[str]:
    """Return what is wrong with two shares."""
    if val_share < 0 or test_share < 0 or val_share + test_share >= 1:
        return [
            f"val_share {val_share:g} and test_share {test_share:g} have to be 0 or more and "
            "together below 1"
        ]
    return []
