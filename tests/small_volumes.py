"""Small scans at any angle, and where in millimetres something lies in them."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

__all__ = ["blob", "centre_of_mass_mm", "itk_image", "noise", "oblique"]


def oblique(
    spacing: tuple[float, ...],
    degrees: tuple[float, float] = (12.0, -7.0),
    origin: tuple[float, ...] = (-31.0, 12.0, 5.0),
) -> NDArray[np.float64]:
    a, b = np.radians(degrees)
    about_r = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_s = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_r @ about_s * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def blob(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    centre_mm: NDArray[np.float64],
    sigma_mm: float = 4.0,
) -> NDArray[np.float32]:
    """A Gaussian ball around a point in RAS millimetres."""
    index = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)], axis=-1)
    distance = np.linalg.norm((index @ affine.T)[..., :3] - centre_mm, axis=-1)
    ball: NDArray[np.float32] = (1000 * np.exp(-((distance / sigma_mm) ** 2) / 2)).astype("f4")
    return ball


def centre_of_mass_mm(
    array: NDArray[np.float32], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    weight = array / array.sum()
    axes = np.meshgrid(*map(np.arange, array.shape), indexing="ij")
    index = [float((weight * axis).sum()) for axis in axes]
    where: NDArray[np.float64] = (affine @ (*index, 1))[:3]
    return where


def itk_image(array: NDArray[np.float32], ras_affine: NDArray[np.float64]) -> sitk.Image:
    """The same scan in ITK's terms: (z, y, x) arrays and LPS millimetres."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras_affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image
