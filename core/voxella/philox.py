"""One generator for all random numbers: keyed by what they are drawn for, and by nothing else.

Philox (Salmon et al. 2011, SC'11) keyed with 128 bits of a hash. Not ``torch.Generator``: on the
CPU it keeps only the lower 32 bits of its seed, so that among the millions of draws of one run
thousands would share theirs.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

__all__ = ["keyed_generator"]


def keyed_generator(*identity: int | str) -> np.random.Generator:
    """Return a generator keyed by a hash of its arguments; JSON keeps them apart.

    Args:
        identity: Seed, purpose, case, step...; 0 is a seed like any other.
    """
    key = hashlib.blake2b(json.dumps(list(identity)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
