"""Power-function averages and the one made of others (Karras et al. 2023, arXiv:2312.02696).

An average at time t with exponent gamma weighs the weights of time tau by ``tau^gamma``: its length
is a share of the training and not a number of steps. Its relative width ``sigma_rel`` is the
standard deviation of that profile over t, 0.05 to 0.25 in use; 0.1 is some tenth of the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Profile", "exponent", "mixture", "relative_width"]

# Of a flat average, exponent 0: of wider ones the profile would fall.
_WIDEST = math.sqrt(1 / 12)


@dataclass(frozen=True)
class Profile:
    """An average.

    Attributes:
        time: Optimizer steps done when it was taken, from 1.
        sigma_rel: Its relative width.
    """

    time: int
    sigma_rel: float


def exponent(sigma_rel: float) -> float:
    """Return gamma of a relative width (their section 3.1 and algorithm 2).

    The largest root of ``gamma^3 + 7 gamma^2 + (16 - w) gamma + (12 - w)``, w = sigma_rel^-2.

    Raises:
        ValueError: The width is not above 0, or is more than a flat average's, 0.2887.
    """
    if not 0 < sigma_rel <= _WIDEST:
        raise ValueError(f"received {sigma_rel:g}; expected: above 0, at most {_WIDEST:.4f}")
    w = sigma_rel**-2
    return max(0.0, float(np.roots([1, 7, 16 - w, 12 - w]).real.max()))


def relative_width(gamma: float) -> float:
    """Return the standard deviation of ``tau^gamma`` on (0, 1): what :func:`exponent` inverts."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def mixture(kept: Sequence[Profile], wanted: Profile) -> NDArray[np.float64]:
    """Return the factors on kept averages whose sum is nearest to another (their section 3.2).

    Least squares between profiles, which are functions of time: exact where the wanted one is kept.

    Args:
        kept: At least one, each once.
        wanted: The other; averages that end after it does not help it.

    Returns:
        ``(len(kept),)``.
    """
    products = np.array([[_product(a, b) for b in kept] for a in kept])
    target = np.array([_product(a, wanted) for a in kept])
    # Neighbouring profiles are nearly one another: among equally near sums the smallest factors.
    factors, *_ = np.linalg.lstsq(products, target, rcond=1e-14)
    return np.asarray(factors, dtype=np.float64)


def _product(a: Profile, b: Profile) -> float:
    """Return the integral of the product of two profiles (their appendix C.3, equation 122)."""
    first, last = (a, b) if a.time <= b.time else (b, a)
    one, two = exponent(first.sigma_rel), exponent(last.sigma_rel)
    ratio = first.time / last.time
    return float((one + 1) * (two + 1) * ratio**two / ((one + two + 1) * last.time))
