"""Diversity and intensities: MONAI's and scipy's numbers, and what they have to notice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from voxella.errors import UserError
from voxella.metrics.diversity import disjoint_pairs, ms_ssim, ms_ssim_diversity, scales_for
from voxella.metrics.histogram import (
    compare_bands,
    intensity_counts,
    jensen_shannon,
    wasserstein,
    wasserstein_estimate,
)
from voxella.metrics.reconstruction import ssim

Array = NDArray[np.float64]
EDGES = np.linspace(0.0, 1.0, 65)


def volume(seed: int, *size: int) -> Tensor:
    return torch.rand((1, *size), generator=torch.Generator().manual_seed(seed))


def smooth(seed: int) -> Tensor:
    """Large shapes that differ from seed to seed, so that some SSIM is left."""
    coarse = volume(seed, 4, 4, 3)
    return torch.nn.functional.interpolate(coarse[None], size=(24, 24, 12), mode="trilinear")[0]


@pytest.mark.parametrize(
    ("size", "scales"), [((176, 180), 5), ((256, 256, 128), 4), ((44, 44, 50), 3), ((8, 30), 1)]
)
def test_small_volumes_take_fewer_scales(size: tuple[int, ...], scales: int) -> None:
    assert scales_for(size) == scales


def test_five_scales_are_monais() -> None:
    a, b = volume(0, 176, 180), volume(1, 176, 180) * 0.3 + 0.7 * volume(0, 176, 180)
    theirs = MultiScaleSSIMMetric(spatial_dims=2)(b[None], a[None])
    assert ms_ssim(a, b) == pytest.approx(float(theirs), abs=1e-5)


def test_one_scale_is_ssim_and_equals_are_at_one() -> None:
    a, b = smooth(0), smooth(1)
    assert ms_ssim(a, b) == pytest.approx(float(ssim(a[None], b[None])), abs=1e-4)
    assert ms_ssim(a, a) == pytest.approx(1.0, abs=1e-5)
    small = volume(0, 9, 9, 6)
    assert ms_ssim(small, small) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(ValueError, match="shapes differ"):
        ms_ssim(a, small)


def test_a_collapsed_generator_is_less_diverse() -> None:
    ids = [f"c{number:02d}" for number in range(20)]
    kinds: dict[str, Callable[[str], Tensor]] = {
        "various": lambda case: smooth(int(case[1:])),
        "collapsed": lambda case: smooth(int(case[1:]) % 2),
    }
    found = {
        kind: ms_ssim_diversity(load, ids, seed=0, name="d", replicates=200)
        for kind, load in kinds.items()
    }
    various, collapsed = found["various"], found["collapsed"]
    assert various.high is not None
    assert collapsed.value is not None
    assert collapsed.value > various.high
    assert various.n == 10
    assert "1 of 5 scales: the shortest axis has 12 voxels" in (various.note or "")


def test_pairs_share_no_case_and_no_patient() -> None:
    ids = [f"c{number:02d}" for number in range(30)]
    patients = [f"p{number // 3}" for number in range(30)]
    pairs = disjoint_pairs(ids, patients, seed=0, name="d")
    flat = [case for pair in pairs for case in pair]
    assert len(flat) == len(set(flat))
    assert len(pairs) >= 13
    owner = dict(zip(ids, patients, strict=True))
    assert all(owner[first] != owner[second] for first, second in pairs)
    backwards = disjoint_pairs(ids[::-1], patients[::-1], seed=0, name="d")
    assert backwards == pairs
    with pytest.raises(UserError, match="two cases of different patients"):
        disjoint_pairs(["a", "b"], ["p", "p"], seed=0, name="d")


def counts(seed: int, a: float = 2.0, b: float = 5.0, size: int = 4000) -> Array:
    drawn = np.random.default_rng(seed).beta(a, b, size=size)
    return intensity_counts(drawn, EDGES)


def test_histograms_leave_the_background_out() -> None:
    assert intensity_counts(np.array([0.0, 0.0, 0.3, 1.0, 1.7]), EDGES).sum() == 3
    assert intensity_counts(np.array([0.05, 0.3]), EDGES, above=0.1).sum() == 1


def test_distances_are_their_definitions() -> None:
    """The integral of |F - G|; and scipy's Jensen-Shannon, ours being by hand."""
    p, q = counts(0), counts(1, 3.0)
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    apart = np.abs(np.cumsum(p / p.sum() - q / q.sum()))[:-1]
    assert wasserstein(p, q, EDGES) == pytest.approx(np.sum(apart * np.diff(centres)), abs=1e-15)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2), rel=1e-9)


def test_a_shift_is_as_far_as_it_is_wide() -> None:
    p = counts(0)
    p[-8:] = 0.0
    assert wasserstein(p, np.roll(p, 8), EDGES) == pytest.approx(8 / 64)
    assert jensen_shannon(p, p) == pytest.approx(0.0, abs=1e-7)
    first, last = np.eye(64)[0], np.eye(64)[63]
    assert jensen_shannon(first, last) == pytest.approx(1.0)
    with pytest.raises(UserError, match="no foreground"):
        wasserstein(p, np.zeros(64), EDGES)


def test_bands_part_the_real_foreground_at_its_percentiles() -> None:
    edges = np.linspace(0.0, 1.0, 1001)
    drawn = np.random.default_rng(0).beta(2.0, 5.0, size=20000)
    real = intensity_counts(drawn, edges)
    bands = compare_bands(real, real, edges)
    assert [band.share_real for band in bands] == pytest.approx(
        [0.25, 0.25, 0.25, 0.2, 0.05], abs=0.01
    )
    assert bands[1].high == pytest.approx(np.median(drawn), abs=2e-3)
    assert all(band.wasserstein == 0.0 for band in bands)
    # The brightest twentieth loses its contrast: only that band tells.
    dull = intensity_counts(np.minimum(drawn, np.percentile(drawn, 96)), edges)
    told = compare_bands(real, dull, edges)
    assert [band.wasserstein for band in told[:-1]] == pytest.approx([0.0] * 4, abs=1e-9)
    assert told[-1].jensen_shannon is not None
    assert told[-1].jensen_shannon > 0.5
    assert told[-1].as_json()["percentiles"] == (95.0, 100.0)


def test_voxels_brighter_than_any_real_one_count_in_the_last_band() -> None:
    edges = np.linspace(0.0, 1.0, 1001)
    drawn = np.random.default_rng(0).beta(2.0, 5.0, size=20000)
    glaring = np.concatenate([drawn * 0.5, np.full(1000, 0.97)])
    bands = compare_bands(
        intensity_counts(drawn * 0.5, edges), intensity_counts(glaring, edges), edges
    )
    assert sum(band.share_synthetic for band in bands) == pytest.approx(1.0)
    assert bands[-1].high == 1.0
    assert bands[-1].share_synthetic == pytest.approx((1000 + 0.05 * 20000) / 21000, abs=0.01)


def test_a_band_that_synthetic_voxels_miss_has_no_distance() -> None:
    edges = np.linspace(0.0, 1.0, 1001)
    drawn = np.random.default_rng(0).beta(2.0, 5.0, size=20000)
    dark = intensity_counts(drawn * 0.2, edges)
    bands = compare_bands(intensity_counts(drawn, edges), dark, edges)
    assert bands[-1].share_synthetic == 0.0
    assert bands[-1].wasserstein is None
    with pytest.raises(UserError, match="cannot part the real intensities"):
        compare_bands(counts(0)[:4], counts(0)[:4], EDGES[:5])


def test_the_pooled_distance_has_an_interval_over_patients() -> None:
    real = np.stack([counts(seed) for seed in range(12)])
    moved = np.stack([counts(seed, 2.6) for seed in range(20, 32)])
    patients = [f"p{number:02d}" for number in range(12)]
    found = [
        wasserstein_estimate(
            real, other, EDGES, patients, patients, seed=0, name="w", replicates=100
        )
        for other in (real, moved)
    ]
    assert found[0].value == 0.0
    assert found[0].high is not None
    assert found[1].low is not None
    assert found[1].low > found[0].high
    expected = 2.6 / 7.6 - 2.0 / 7.0  # the means of the two beta distributions
    assert found[1].value == pytest.approx(expected, abs=0.005)
