"""In which affines millimetres mean something."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voxella.imaging.problem import Problem

__all__ = ["affine_problem", "edges_problem", "shown_edges"]

# NIfTI stores its affine in float32; a shear above this is no rounding (cosine between two axes).
_SHEAR = 1e-3
# Edge of a voxel and distance from the origin in mm, from microscopy to the longest scanner table;
# what lies outside is a damaged header.
_EDGE_MM = (1e-5, 1e3)
_FURTHEST_MM = 1e5


def edges_problem(written: Sequence[float]) -> Problem | None:
    """Judge the voxel edges that a header states, in mm, before anyone has fixed them."""
    if all(np.isfinite(edge) and edge > 0 for edge in written):
        return None
    return "geometry.spacing", f"its header gives voxel edges of {shown_edges(written)} mm"


def affine_problem(affine: NDArray[np.float64]) -> Problem | None:
    """Judge a ``(4, 4)`` affine, voxel index to mm: finite, of some extent, at right angles."""
    # Compared before anything is squared, which could overflow.
    if not (np.abs(affine) <= _FURTHEST_MM).all():
        problem = f"its affine is not finite, or lies more than {_FURTHEST_MM:,.0f} mm away"
        return "geometry.affine", problem
    axes = affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if lengths.min() < _EDGE_MM[0] or lengths.max() > _EDGE_MM[1]:
        return "geometry.affine", (
            f"a voxel of {shown_edges(lengths)} mm: it has no extent, or its header is damaged "
            f"({_EDGE_MM[0]:g} to {_EDGE_MM[1]:g} mm are read)"
        )
    unit = axes / lengths
    cosine = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if cosine > _SHEAR:
        angle = np.degrees(np.arccos(min(cosine, 1.0)))
        return "geometry.sheared", (
            f"sheared affine: two axes are {angle:.2f} degrees apart instead of 90"
        )
    return None


def shown_edges(edges: Sequence[float] | NDArray[np.float64]) -> str:
    """Return voxel edges as messages show them."""
    return " x ".join(f"{edge:.6g}" for edge in edges)
