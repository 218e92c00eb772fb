"""Colours of one laboratory's stains to those of a reference (Macenko et al. 2009, ISBI).

Light is absorbed by each stain in proportion to its amount (Beer and Lambert): in optical densities
a pixel is a sum of two vectors, haematoxylin's and eosin's. They are the two extreme directions of
an image's pixels. Written by hand: scikit-image separates given stains, and does not find them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["REFERENCE", "REFERENCE_AMOUNTS", "WHITE", "macenko"]

# Haematoxylin and eosin in red, green and blue, their amounts at the 99th percentile, and the light
# of empty glass: the reference that goes with the method in its public implementations.
REFERENCE = ((0.5626, 0.7201, 0.4062), (0.2159, 0.8012, 0.5581))
REFERENCE_AMOUNTS = (1.9705, 1.0308)
WHITE = 240.0 / 255.0

# As published: pixels that absorb less in any colour are glass; angles from this percentile on.
_LEAST_DENSITY = 0.15
_ANGLE_PERCENTILE = 1.0
_AMOUNT_PERCENTILE = 99.0
_DARKEST = 1.0 / 255.0
# Of fewer pixels, or of directions nearer to each other (radians), there are no two stains to find.
_LEAST_SHARE = 0.01
_LEAST_ANGLE = 0.02


def macenko(image: NDArray[np.floating]) -> NDArray[np.float32] | None:
    """Return an image as if it had the reference's stains; None where its own cannot be found.

    Args:
        image: ``(3, *spatial)`` in [0, 1], red, green and blue.

    Returns:
        Of the same shape, in [0, 1]. None for a tile of nearly nothing but glass, or of one stain.
    """
    light = np.clip(np.asarray(image, dtype=np.float64), _DARKEST, 1.0).reshape(3, -1)
    densities = -np.log(light / WHITE)
    stains = _stains(densities)
    if stains is None:
        return None
    amounts = np.linalg.lstsq(stains.T, densities, rcond=None)[0]
    most = np.percentile(amounts, _AMOUNT_PERCENTILE, axis=1)
    if most.min() <= 0:
        return None
    scaled = amounts * (np.array(REFERENCE_AMOUNTS) / most)[:, None]
    colours = WHITE * np.exp(-(np.array(REFERENCE).T @ scaled))
    clipped: NDArray[np.float32] = np.clip(colours, 0.0, 1.0).astype(np.float32)
    return clipped.reshape(image.shape)


def _stains(densities: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the unit vectors ``(2, 3)`` of haematoxylin and eosin in densities ``(3, N)``."""
    tissue = densities[:, (densities >= _LEAST_DENSITY).all(axis=0)]
    if tissue.shape[1] < max(_LEAST_SHARE * densities.shape[1], 2):
        return None
    # Densities are positive, so the first direction is, too: angles to it stay clear of a turn.
    plane = np.linalg.eigh(tissue @ tissue.T)[1][:, :0:-1]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    across, along = plane[:, 1] @ tissue, plane[:, 0] @ tissue
    ends = np.percentile(np.arctan2(across, along), [_ANGLE_PERCENTILE, 100.0 - _ANGLE_PERCENTILE])
    if ends[1] - ends[0] < _LEAST_ANGLE:
        return None
    found = np.stack([plane @ (np.cos(end), np.sin(end)) for end in ends])
    # Haematoxylin is blue: it takes more of the red than eosin does.
    return found if found[0, 0] > found[1, 0] else found[::-1]
