"""Stains: optical densities of haematoxylin and eosin to colours, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EOSIN", "HAEMATOXYLIN", "Stain", "colours", "densities", "draw_stain"]

# Optical densities in red, green and blue of a unit of each stain, as Macenko et al. (2009) give
# them for reference.
HAEMATOXYLIN = (0.5626, 0.7201, 0.4062)
EOSIN = (0.2159, 0.8012, 0.5581)
_LEAST = 1.0 / 255.0  # a black pixel's transmission is taken for this, not for zero


@dataclass(frozen=True)
class Stain:
    """How one laboratory stains and one scanner sees.

    Attributes:
        haematoxylin: Unit vector of optical densities in red, green and blue.
        eosin: Likewise.
        strength: Of the two stains; 1 is usual.
        white: Transmission of empty glass in red, green and blue, 0 to 1.
    """

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    strength: tuple[float, float]
    white: tuple[float, float, float]


def draw_stain(rng: np.random.Generator) -> Stain:
    """Return the stain of a slide."""
    # Laboratories differ along one line more than at random: bluer or redder haematoxylin.
    tilt = float(np.clip(rng.normal(0.02, 0.035), -0.05, 0.09))
    cool = float(np.clip(rng.normal(0.0, 0.045), -0.07, 0.07))
    strength = rng.uniform([0.75, 0.8], [1.25, 1.4])
    white = 0.955 + rng.uniform(-0.025, 0.02) + rng.uniform(-0.012, 0.012, 3)
    return Stain(
        haematoxylin=_unit(HAEMATOXYLIN, (tilt, 0.0, -tilt - 0.03)),
        eosin=_unit(EOSIN, (0.03 + cool / 3, 0.0, -0.03 - 2 * cool)),
        strength=(round(float(strength[0]), 4), round(float(strength[1]), 4)),
        white=_rounded(white),
    )


def _unit(reference: tuple[float, ...], change: tuple[float, ...]) -> tuple[float, float, float]:
    vector = np.array(reference) + np.array(change)
    return _rounded(vector / np.sqrt((vector**2).sum()))


def _rounded(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (round(float(value), 4) for value in vector)
    return red, green, blue


def colours(
    haematoxylin: NDArray[np.float32], eosin: NDArray[np.float32], stain: Stain
) -> NDArray[np.float32]:
    """Return transmissions ``(n, n, 3)`` of two densities ``(n, n)``: Beer and Lambert's law."""
    first = haematoxylin * np.float32(stain.strength[0])
    second = eosin * np.float32(stain.strength[1])
    bands = [
        np.float32(white) * np.exp(-(first * np.float32(h) + second * np.float32(e)))
        for h, e, white in zip(stain.haematoxylin, stain.eosin, stain.white, strict=True)
    ]
    return np.stack(bands, axis=-1)


def densities(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the densities ``(..., 2)`` of haematoxylin and eosin of an image ``(..., 3)``.

    Colour deconvolution (Ruifrok and Johnston, 2001) with Macenko's reference vectors and, as the
    third, what is perpendicular to both; the image is in [0, 1], densities are natural logarithms.
    """
    first, second = np.array(HAEMATOXYLIN), np.array(EOSIN)
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    third = np.cross(first, second)
    inverse = np.linalg.inv(np.stack([first, second, third / np.linalg.norm(third)]))
    absorbed = -np.log(np.clip(np.asarray(image, dtype=np.float64), _LEAST, 1.0))
    # Written out: a matrix product may add in another order elsewhere.
    return np.stack(
        [sum(absorbed[..., band] * inverse[band, k] for band in range(3)) for k in range(2)],
        axis=-1,
    )
