"""What a tile shows: tumour share and lymphocytes, measured from its pixels.

Colour deconvolution gives the densities of haematoxylin and eosin; a linear rule of a few smoothed
maps tells tumour from other tissue pixel by pixel; blobs of the size of a lymphocyte are told from
other nuclei by another linear rule. The constants were fitted once by ``fit.py`` on
tiles of seed 1000 and stand in :mod:`voxella_importers.phantom_he.constants`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from voxella_importers.phantom_he.constants import LYMPHOCYTE, TUMOUR
from voxella_importers.phantom_he.stain import densities

__all__ = ["DETECTOR", "TileSighting", "blobs", "look_at_tile", "tissue_maps"]

# Raise this whenever the same image gives another sighting.
DETECTOR = "1"

_MPP = 1.0  # micrometres per pixel that everything is measured at
_LIKE = 0.04  # a tile this near to it is not resampled
_BLANK = 0.02  # mean density below which there is no tissue to look at
_LEAST_BLOB = 0.05  # density by which a blob stands out, at the least


@dataclass(frozen=True)
class TileSighting:
    """What a tile shows.

    Attributes:
        tumour: Share of the tile that is tumour.
        lymphocytes: Found in it.
        til_per_mm2: The same per square millimetre.
        blank: There is no tissue.
    """

    tumour: float
    lymphocytes: int
    til_per_mm2: float
    blank: bool


def look_at_tile(image: NDArray[np.floating], mpp: float) -> TileSighting:
    """Measure a tile.

    Args:
        image: ``(n, m, 3)`` in [0, 1].
        mpp: Micrometres per pixel.
    """
    image = _at_one_micrometre(np.asarray(image, dtype=np.float64), mpp)
    stains = densities(image)
    area_mm2 = stains.shape[0] * stains.shape[1] * (_MPP / 1000) ** 2
    if float(stains.clip(0).mean()) < _BLANK:
        return TileSighting(0.0, 0, 0.0, blank=True)
    maps = tissue_maps(stains)
    likely = TUMOUR.probability(maps)
    _, features = blobs(stains, likely)
    count = int((LYMPHOCYTE.probability(features) > 0.5).sum()) if len(features) else 0
    return TileSighting(
        tumour=round(float((likely > 0.5).mean()), 4),
        lymphocytes=count,
        til_per_mm2=round(count / area_mm2, 1),
        blank=False,
    )


def _at_one_micrometre(image: NDArray[np.float64], mpp: float) -> NDArray[np.float64]:
    factor = mpp / _MPP
    if abs(factor - 1.0) <= _LIKE:
        return image
    if factor < 1.0:  # or finer detail would fold back into it
        image = ndimage.gaussian_filter(image, (0.4 / factor, 0.4 / factor, 0))
    return np.asarray(
        ndimage.zoom(image, (factor, factor, 1), order=1, grid_mode=True, mode="nearest")
    )


def tissue_maps(stains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(n, m, k)`` smoothed maps from which tumour is told.

    Args:
        stains: ``(n, m, 2)`` densities of haematoxylin and eosin.
    """
    haem, eosin = stains[..., 0].clip(-0.3, 2.5), stains[..., 1].clip(-0.3, 2.5)
    fine = ndimage.gaussian_filter(haem, 1.0)
    # Between nuclei: what cytoplasm or fibres take up.
    between = ndimage.gaussian_filter(ndimage.percentile_filter(fine, 25, size=11), 3.0)
    # Of nuclei: pale large ones are tumour's, small dark ones are lymphocytes'.
    nuclei = ndimage.gaussian_filter(ndimage.percentile_filter(fine, 85, size=15), 3.0)
    middling = ((fine > 0.35) & (fine < 0.95)).astype(np.float64)
    dark = (fine > 1.0).astype(np.float64)
    pale = (fine + ndimage.gaussian_filter(eosin, 1.0) < 0.25).astype(np.float64)
    maps = [
        between,
        ndimage.gaussian_filter(eosin, 4.0),
        ndimage.gaussian_filter(haem, 4.0),
        ndimage.gaussian_filter(haem, 9.0),
        nuclei,
        ndimage.gaussian_filter(middling, 7.0),
        ndimage.gaussian_filter(dark, 7.0),
        ndimage.gaussian_filter(pale, 5.0),
        np.sqrt(ndimage.gaussian_filter((eosin - ndimage.gaussian_filter(eosin, 3.0)) ** 2, 5.0)),
        np.full(fine.shape, float(np.percentile(fine, 90))),
        np.full(fine.shape, float(np.percentile(eosin, 60))),
        np.full(fine.shape, float(np.percentile(fine, 15))),
    ]
    return np.stack(maps, axis=-1)


def blobs(
    stains: NDArray[np.float64], likely: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return places ``(k, 2)`` and features ``(k, f)`` of blobs of the size of a lymphocyte.

    Args:
        stains: ``(n, m, 2)`` densities of haematoxylin and eosin.
        likely: ``(n, m)`` probability of tumour.
    """
    haem = stains[..., 0].clip(-0.3, 2.5)
    smooth = {sigma: ndimage.gaussian_filter(haem, sigma) for sigma in (1.0, 1.8, 3.0, 5.0)}
    stands_out = smooth[1.8] - smooth[3.0]
    peak = (stands_out == ndimage.maximum_filter(stands_out, 5)) & (stands_out > _LEAST_BLOB)
    places = np.argwhere(peak)
    brightest = float(np.percentile(smooth[1.0], 97))
    rough = np.sqrt(ndimage.gaussian_filter((haem - smooth[1.0]) ** 2, 2.0))
    rows, columns = places[:, 0], places[:, 1]
    features = np.stack(
        [
            smooth[1.0][rows, columns],
            smooth[1.8][rows, columns],
            stands_out[rows, columns],
            smooth[1.8][rows, columns] - smooth[5.0][rows, columns],
            smooth[5.0][rows, columns],
            rough[rows, columns],
            _narrow(smooth[1.0])[rows, columns],
            likely[rows, columns],
            np.full(len(places), brightest),
        ],
        axis=-1,
    )
    return places, features


def _narrow(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how unlike the two curvatures are: 0 of a round blob, large of a spindle."""
    down = ndimage.gaussian_filter(plane, 1.5, order=(2, 0))
    right = ndimage.gaussian_filter(plane, 1.5, order=(0, 2))
    cross = ndimage.gaussian_filter(plane, 1.5, order=(1, 1))
    return np.asarray(np.sqrt((down - right) ** 2 + 4 * cross**2))
