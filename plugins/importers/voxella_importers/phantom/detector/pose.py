"""Where the gland of a prepared volume lies, how large it is and how bright its zones are.

A least-squares fit of the textureless phantom, from priors that are the phantom's own distributions
(``facts``): the field of view is centred on the gland within millimetres, and volumes, tilts and
proportions have known spreads. Nothing is learned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from voxella_importers.phantom.detector.anatomy import Anatomy, anatomy, coil_bias
from voxella_importers.phantom.gland import Gland

__all__ = ["Pose", "find_gland"]

Floats = NDArray[np.floating]

_STEP_MM = 4.0  # between the points that a fit looks at
_REACH_MM = (38.0, 34.0, 34.0)  # of those points from the middle, along R, A, S
# Mean and standard deviation in ``facts.draw_facts``: centre R, A, S (mm), log of the volume (ml),
# tilt about R (degrees), depth, height, transition, bladder filling, taper and bend.
_MEAN = np.array([0.0, 0.0, 0.0, math.log(44.0), 0.0, 0.75, 0.90, 0.73, 0.5, 0.18, 0.16])
_SPREAD = np.array([2.5, 2.5, 2.0, 0.42, 7.0, 0.03, 0.05, 0.06, 0.25, 0.035, 0.035])
_NEAR_MM = 5.0  # of the gland's surface: where the pelvis about it, bent by chance, says little
_TEXTURE = 0.10  # what no fit explains, relative signal
_NEIGHBOURS = 12.0  # points that share their texture
# Levels of the zones, relative to urine: mean and spread.
_PERIPHERAL, _TRANSITION, _LEVEL_SPREAD = 0.64, 0.29, (0.06, 0.03)
_VOLUMES, _TILTS = (28.0, 42.0, 62.0, 85.0), (0.0, -10.0)  # to start from
_OUTLIER = 0.6  # residual from which a point counts for less


@dataclass(frozen=True)
class Pose:
    """A gland found in a volume.

    Attributes:
        gland: Its shape.
        centre_mm: Its centre relative to the volume's middle, along the volume's axes.
        tilt_deg: Turn of the gland's frame about R, in the volume's axes.
        bladder: How full, 0 to 1.
        gain: Intensity of relative signal 1.
        peripheral: Level of the peripheral zone, relative signal.
        transition: Level of the transition zone, likewise.
        similarity: Correlation of the volume with the fitted anatomy, at points near the gland.
    """

    gland: Gland
    centre_mm: tuple[float, float, float]
    tilt_deg: float
    bladder: float
    gain: float
    peripheral: float
    transition: float
    similarity: float

    def frame(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the gland's ``x, y, z`` of points ``(N, 3)``, mm from the volume's middle."""
        return _frame(points, np.asarray(self.centre_mm), self.tilt_deg)

    def place(self, points: Floats) -> Floats:
        """Return, in mm from the volume's middle, points ``(N, 3)`` of the gland's frame."""
        x, y, z = _frame(points, np.zeros(3), -self.tilt_deg)
        return np.asarray(np.stack([x, y, z], axis=1) + self.centre_mm)


def find_gland(image: Floats, spacing_mm: tuple[float, float, float]) -> Pose:
    """Fit the gland of a prepared volume.

    Args:
        image: ``(R, A, S)`` in [0, 1].
        spacing_mm: Voxel edges along R, A, S.
    """
    points, values = _points(image, spacing_mm)
    # A third of the points tells a good start from a bad one.
    few = (points[::2], values[::2])
    fits = [
        _fit(min((_start(volume, tilt) for tilt in _TILTS), key=lambda s: _cost(s, *few)), *few, 5)
        for volume in _VOLUMES
    ]
    fits.sort(key=lambda fit: _cost(fit, *few))
    refined = [_refined(fit, points, values) for fit in fits[:2]]
    best, _ = max(refined, key=lambda found: found[1].similarity)
    return _refined(best, points, values)[1]


def _refined(start: Floats, points: Floats, values: Floats) -> tuple[Floats, Pose]:
    """Fit the points near the gland: the pelvis is bent by chance, the gland is not."""
    near = _expected(start, points)[0].surface < _NEAR_MM
    fit = _fit(start, points[near], values[near], 8)
    return fit, _pose(fit, points[near], values[near])


def _fit(start: Floats, points: Floats, values: Floats, rounds: int) -> Floats:
    fit = least_squares(
        _residual,
        start,
        args=(points, values),
        jac=_slopes,
        x_scale=_SPREAD,
        loss="soft_l1",
        f_scale=_OUTLIER,
        max_nfev=rounds,
    )
    return np.asarray(fit.x)


def _cost(parameters: Floats, points: Floats, values: Floats) -> float:
    """Return what a fit makes small: the sum of soft-L1 losses."""
    scaled = (_residual(parameters, points, values) / _OUTLIER) ** 2
    return float(np.sum(np.sqrt(1.0 + scaled) - 1.0))


def _slopes(parameters: Floats, points: Floats, values: Floats) -> Floats:
    """Return the residual's slopes by central differences over steps as wide as an edge."""
    columns = []
    for number, step in enumerate(0.15 * _SPREAD):
        change = np.zeros_like(parameters)
        change[number] = step
        up, down = (_residual(parameters + side * change, points, values) for side in (1, -1))
        columns.append((up - down) / (2 * step))
    return np.stack(columns, axis=1)


def _points(image: Floats, spacing_mm: tuple[float, float, float]) -> tuple[Floats, Floats]:
    """Return points ``(N, 3)`` in mm from the middle, and the smoothed image there."""
    strides = [max(1, round(_STEP_MM / edge)) for edge in spacing_mm]
    sigma = [0.35 * stride if stride > 1 else 0.0 for stride in strides]
    smooth = gaussian_filter(np.asarray(image, np.float64), sigma)
    kept, axes = [], []
    for count, edge, stride, reach in zip(image.shape, spacing_mm, strides, _REACH_MM, strict=True):
        places = (np.arange(count) - (count - 1) / 2) * edge
        chosen = np.arange(count)[(count % stride) // 2 :: stride]
        chosen = chosen[np.abs(places[chosen]) <= reach]
        kept.append(chosen)
        axes.append(places[chosen])
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return points, smooth[np.ix_(*kept)].ravel()


def _start(volume_ml: float, tilt_deg: float) -> Floats:
    start = _MEAN.copy()
    start[3], start[4] = math.log(volume_ml), tilt_deg
    start[7] = _transition(volume_ml)
    return start


def _transition(volume_ml: float) -> float:
    """Return the usual size of the transition zone, which grows with the gland."""
    return min(max(0.67 + 0.2 * (volume_ml - 20.0) / 80.0, 0.63), 0.89)


def _gland(parameters: Floats) -> Gland:
    volume = math.exp(float(np.clip(parameters[3], math.log(12.0), math.log(140.0))))
    depth, height = (float(np.clip(p, 0.55, 1.2)) for p in parameters[5:7])
    transition = float(np.clip(parameters[7], 0.5, 0.95))
    taper, bend = (float(np.clip(p, 0.0, 0.4)) for p in parameters[9:11])
    return Gland.of_volume(
        volume,
        depth=depth,
        height=height,
        taper=taper,
        bend=bend,
        transition=transition,
        asymmetry=0.0,
    )


def _frame(points: Floats, centre: Floats, tilt_deg: float) -> tuple[Floats, Floats, Floats]:
    x, a, s = (points - centre).T
    cos, sin = math.cos(math.radians(tilt_deg)), math.sin(math.radians(tilt_deg))
    return x, cos * a + sin * s, cos * s - sin * a


def _expected(parameters: Floats, points: Floats) -> tuple[Anatomy, Floats]:
    xyz = _frame(points, parameters[:3], float(parameters[4]))
    full = float(np.clip(parameters[8], 0.0, 1.0))
    return anatomy(_gland(parameters), xyz, full), coil_bias(xyz[1])


def _levels(parts: Anatomy, bias: Floats, values: Floats) -> Floats:
    """Return gain and gain times the zones' levels, by least squares with the levels' priors."""
    columns = np.stack([parts.fixed * bias, parts.peripheral * bias, parts.transition * bias], 1)
    scale = _TEXTURE * math.sqrt(_NEIGHBOURS)
    prior = np.array(
        [
            [-_PERIPHERAL / _LEVEL_SPREAD[0], 1 / _LEVEL_SPREAD[0], 0.0],
            [-_TRANSITION / _LEVEL_SPREAD[1], 0.0, 1 / _LEVEL_SPREAD[1]],
        ]
    )
    normal = columns.T @ columns / scale**2 + prior.T @ prior
    return np.asarray(np.linalg.solve(normal, columns.T @ values / scale**2))


def _left(parameters: Floats, points: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Return gain and levels, and the relative signal that they leave."""
    parts, bias = _expected(parameters, points)
    levels = _levels(parts, bias, values)
    mean = bias * (
        levels[0] * parts.fixed + levels[1] * parts.peripheral + levels[2] * parts.transition
    )
    return levels, (values - mean) / max(float(levels[0]), 1e-3)


def _residual(parameters: Floats, points: Floats, values: Floats) -> Floats:
    levels, left = _left(parameters, points, values)
    expected = _MEAN.copy()
    expected[7] = _transition(math.exp(float(parameters[3])))
    gain = max(float(levels[0]), 1e-3)
    zones = [
        (levels[1] / gain - _PERIPHERAL) / _LEVEL_SPREAD[0],
        (levels[2] / gain - _TRANSITION) / _LEVEL_SPREAD[1],
    ]
    return np.concatenate(
        [
            left / (_TEXTURE * math.sqrt(_NEIGHBOURS)),
            (parameters - expected) / _SPREAD,
            zones,
        ]
    )


def _pose(parameters: Floats, points: Floats, values: Floats) -> Pose:
    levels, left = _left(parameters, points, values)
    gain = max(float(levels[0]), 1e-3)
    r, a, s = (float(value) for value in parameters[:3])
    return Pose(
        _gland(parameters),
        (r, a, s),
        float(parameters[4]),
        float(np.clip(parameters[8], 0.0, 1.0)),
        gain,
        float(levels[1]) / gain,
        float(levels[2]) / gain,
        _correlation(values, values - gain * left),
    )


def _correlation(first: Floats, second: Floats) -> float:
    """Return Pearson's correlation, 0 where one of the two is constant, or empty."""
    if len(first) == 0 or min(first.std(), second.std()) < 1e-6:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
