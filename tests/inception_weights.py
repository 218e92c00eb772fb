"""Weights for Inception-v3 by a rule, in the format of pytorch-fid's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.metrics.features.inception import Inception

# What the released file has beyond the features.
HEAD = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


def inception_state() -> dict[str, Tensor]:
    """Return every tensor of the released file, each drawn anew in the order of its name."""
    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in Inception().state_dict().items()}
    drawn = np.random.default_rng(0)
    state = {}
    for name, shape in sorted((shapes | HEAD).items()):
        if name.endswith("num_batches_tracked"):
            continue  # older than that counter
        values = drawn.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            values *= np.float32(np.prod(shape[1:]) ** -0.5)
        elif name.endswith(("running_var", "bn.weight")):
            np.abs(values, out=values)
            values += 0.5
        else:
            values *= 0.1
        state[name] = torch.from_numpy(values)
    return state


def inception_file(folder: Path) -> Path:
    """Write them as the released file is written."""
    path = folder / "pt_inception-2015-12-05-6726825d.pth"
    torch.save(inception_state(), path)
    return path


def picture() -> NDArray[np.uint8]:
    """Return ``(40, 56, 3)``: no two of its turned or mirrored forms are the same."""
    return np.random.default_rng(7).integers(0, 256, (40, 56, 3), dtype=np.uint8)
