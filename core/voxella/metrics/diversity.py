"""How much the volumes of one set differ among themselves: MS-SSIM over random pairs.

A generator that makes the same volume again and again has an MS-SSIM near 1 where real cases have
less. Wang et al. 2003, "Multiscale structural similarity", equation 7, through MONAI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from torch import Tensor

from voxella.errors import UserError
from voxella.metrics.bootstrap import bootstrap
from voxella.metrics.estimate import LEVEL, Estimate, joined
from voxella.philox import keyed_generator

__all__ = ["disjoint_pairs", "ms_ssim", "ms_ssim_diversity", "scales_for"]

# Weights of the five scales, finest first (Wang et al. 2003, section 3.2), and the window's edge.
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11


def scales_for(size: Sequence[int]) -> int:
    """Return how many of the five scales volumes of this size allow; at least 1.

    Each scale halves the volume, and the window of 11 voxels has to fit at the coarsest. MONAI
    asks for a little more, ``edge // (scales - 1)^2 > 10``; both hold here.
    """
    edge = min(size)
    for scales in range(len(_WEIGHTS), 1, -1):
        if edge // (scales - 1) ** 2 >= _WINDOW and edge // 2 ** (scales - 1) >= _WINDOW:
            return scales
    return 1


def ms_ssim(a: Tensor, b: Tensor, *, data_range: float = 1.0) -> float:
    """Return the MS-SSIM of two volumes ``(C, *spatial)``, with as many scales as they allow.

    The weights of the scales kept are rescaled to sum to 1; one scale is plain SSIM. The window is
    11 voxels, or the largest odd number that fits along the shortest axis.
    """
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    size = tuple(a.shape[1:])
    kept = torch.tensor(_WEIGHTS[: scales_for(size)])
    value = compute_ms_ssim(
        a[None].float(),
        b[None].float(),
        spatial_dims=len(size),
        data_range=data_range,
        kernel_size=min(_WINDOW, min(size) - 1 + min(size) % 2),
        weights=(kept / kept.sum()).tolist(),
    )
    return float(value.item())


def ms_ssim_diversity(
    load: Callable[[str], Tensor],
    ids: Sequence[str],
    *,
    seed: int,
    name: str,
    patients: Sequence[str] | None = None,
    pairs: int = 100,
    replicates: int = 1000,
    level: float = LEVEL,
    data_range: float = 1.0,
) -> Estimate:
    """Return the mean MS-SSIM over random pairs that share no case: lower is more diverse.

    Because no case is in two pairs, the pairs are independent and the bootstrap is over pairs.
    Compare with the same number over real cases at the same volume size.

    Args:
        load: Returns the volume of a case, ``(C, *spatial)``, all of one shape.
        ids: Cases.
        seed: With ``name``, decides pairs and draws.
        name: Of the number.
        patients: Of each case; a pair is of two patients. None: each case is its own.
        pairs: At most; there may be fewer cases.
        replicates: Draws.
        level: Coverage.
        data_range: Difference between the largest and the smallest possible intensity.

    Raises:
        UserError: There are not two cases of different patients.
    """
    chosen = disjoint_pairs(ids, patients or ids, seed=seed, name=name)[:pairs]
    values: list[float] = []
    shape: tuple[int, ...] = ()
    for first, second in chosen:
        a = load(first)
        shape = tuple(a.shape[1:])
        values.append(ms_ssim(a, load(second), data_range=data_range))
    similarities = np.array(values)
    found = bootstrap(
        lambda rows: float(similarities[rows].mean()),
        [f"{first}/{second}" for first, second in chosen],
        seed=seed,
        name=name,
        replicates=replicates,
        level=level,
    )
    scales = scales_for(shape)
    note = None
    if scales < len(_WEIGHTS):
        note = f"{scales} of {len(_WEIGHTS)} scales: the shortest axis has {min(shape)} voxels"
    return Estimate(
        found.value,
        found.low,
        found.high,
        len(chosen),
        level,
        f"mean MS-SSIM of {len(chosen)} pairs that share no case; {found.how}",
        joined(note, found.note),
    )


def disjoint_pairs(
    ids: Sequence[str], patients: Sequence[str], *, seed: int, name: str
) -> list[tuple[str, str]]:
    """Return random pairs of cases of different patients, no case in two pairs.

    Raises:
        UserError: There is no such pair.
    """
    generator = keyed_generator(seed, f"{name}/pairs")
    names = sorted(zip(ids, patients, strict=True))
    waiting = [names[position] for position in generator.permutation(len(names))]
    pairs: list[tuple[str, str]] = []
    while waiting:
        case, patient = waiting.pop()
        partner = next((at for at, (_, other) in enumerate(waiting) if other != patient), None)
        if partner is not None:
            pairs.append((case, waiting.pop(partner)[0]))
    if not pairs:
        raise UserError(
            f"diversity needs two cases of different patients, not {len(ids)} case(s)",
            remedy="generate more volumes",
        )
    return pairs
