"""Where the probe's constants come from: fitted on tiles of a seed that nothing else uses.

``python -m voxella_importers.phantom_he.fit TILES`` prints the rules of ``constants.py``.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from voxella_importers.phantom_he.accuracy import Drawn, tiles
from voxella_importers.phantom_he.constants import Rule
from voxella_importers.phantom_he.detect import blobs, tissue_maps
from voxella_importers.phantom_he.stain import densities

__all__ = ["fit"]

_USAGE = "usage: python -m voxella_importers.phantom_he.fit TILES"
_SEED = 1000
_PIXELS = 96  # at one micrometre per pixel
_BLURS = (0.0, 0.0, 0.6, 0.9)  # in turn: what an autoencoder or a scanner may do to them
_KEPT = 400  # pixels of each tile
_REACH = 2.2  # pixels of a blob from the lymphocyte that it is


def fit(count: int) -> tuple[Rule, Rule]:
    """Return the rules of tumour and of lymphocytes."""
    rng = np.random.default_rng(0)
    stains: list[NDArray[np.float64]] = []
    drawn: list[Drawn] = []
    pixels, are_tumour = [], []
    for number, (_, one) in enumerate(tiles(_SEED, count, _PIXELS, 1.0)):
        blur = _BLURS[number % len(_BLURS)]
        image = ndimage.gaussian_filter(one.image, (blur, blur, 0)) if blur else one.image
        stains.append(densities(image))
        drawn.append(one)
        maps = tissue_maps(stains[-1]).reshape(-1, 12)
        kept = rng.choice(len(maps), _KEPT, replace=False)
        pixels.append(maps[kept])
        are_tumour.append(one.tumour.ravel()[kept])
    tumour = _rule(np.concatenate(pixels), np.concatenate(are_tumour))
    features, are_lymphocytes = [], []
    for one, stain in zip(drawn, stains, strict=True):
        places, found = blobs(stain, tumour.probability(tissue_maps(stain)))
        features.append(found)
        are_lymphocytes.append(_matched(places, one.lymphocytes))
    return tumour, _rule(np.concatenate(features), np.concatenate(are_lymphocytes))


def _matched(places: NDArray[np.intp], truth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which blobs are the nearest of a lymphocyte, within reach."""
    found = np.zeros(len(places), bool)
    for place in truth if len(places) else ():
        apart = np.hypot(*(places - place).T)
        if apart.min() < _REACH:
            found[apart.argmin()] = True
    return found


def _rule(features: NDArray[np.float64], truth: NDArray[np.bool_]) -> Rule:
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    model = LogisticRegression(C=1.0, max_iter=2000).fit((features - mean) / deviation, truth)
    weights = model.coef_[0] / deviation
    offset = float(model.intercept_[0] - (weights * mean).sum())
    return Rule(round(offset, 3), tuple(round(float(weight), 3) for weight in weights))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(_USAGE)
    print(*fit(int(sys.argv[1])), sep="\n")
