"""Random numbers as a function of (seed, purpose, case id, step) and of nothing else.

The same case at the same step sees the same noise whatever the batch, the rank or the order, with
or without a GPU. Draw per case and stack::

    torch.stack([seeded_noise(shape, seed=0, case_id=c, step=step) for c in case_ids])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from voxella.philox import keyed_generator

__all__ = ["seeded_noise", "seeded_timesteps", "seeded_uniform"]


def seeded_noise(
    shape: Sequence[int], *, seed: int, case_id: str, step: int, purpose: str = "noise"
) -> Tensor:
    """Return standard normal noise for one case.

    Args:
        shape: Of one case, without the batch axis: ``(C, *spatial)``; ``()`` for one number.
        seed: The recipe's seed; 0 is a seed like any other.
        case_id: The case, or any string that names one sample.
        step: Optimizer step in training, sampler step in generation.
        purpose: Keeps draws of different use apart: ``noise``, ``initial``, ``latent``...

    Returns:
        ``shape``, float32, on the CPU.
    """
    generator = keyed_generator(seed, purpose, case_id, step)
    return torch.from_numpy(np.asarray(generator.standard_normal(tuple(shape), dtype=np.float32)))


def seeded_uniform(
    shape: Sequence[int], *, seed: int, case_id: str, step: int, purpose: str = "uniform"
) -> Tensor:
    """Return uniform numbers in [0, 1) for one case; as :func:`seeded_noise`."""
    generator = keyed_generator(seed, purpose, case_id, step)
    return torch.from_numpy(np.asarray(generator.random(tuple(shape), dtype=np.float32)))


def seeded_timesteps(
    shape: Sequence[int],
    steps: int,
    *,
    seed: int,
    case_id: str,
    step: int,
    purpose: str = "timesteps",
) -> Tensor:
    """Return timesteps uniform over 0 .. ``steps - 1`` for one case, int64.

    Arguments as in :func:`seeded_noise`; ``shape`` is usually ``()``, ``steps`` the schedule's.
    """
    generator = keyed_generator(seed, purpose, case_id, step)
    return torch.from_numpy(np.asarray(generator.integers(steps, size=tuple(shape))))
