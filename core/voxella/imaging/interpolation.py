"""Values between voxels: SimpleITK's interpolators, and its Lanczos kernel axis by axis.

At the paper's size (256 x 256 x 128) SimpleITK's windowed sinc takes 84 s per volume on one core,
for it visits 1000 voxels per value. Between parallel grids the kernel is a product of three, so 30
visits do; a test holds the two to the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

__all__ = ["Interpolation", "lanczos_weights", "sample_any", "sample_axes", "sample_axis"]

Interpolation = Literal["lanczos", "linear", "bspline", "nearest"]

_RADIUS = 5
_ITK = {
    "lanczos": sitk.sitkLanczosWindowedSinc,
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline3,
    "nearest": sitk.sitkNearestNeighbor,
}


def lanczos_weights(
    positions: NDArray[np.float64], count: int
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which voxels of a line make up each value, and their weights, both ``(T, 10)``.

    ``sinc(x) sinc(x / 5)`` at the ten nearest centres. As in ITK's
    ``WindowedSincInterpolateImageFunction`` the weights are not normalised to a sum of one, voxels
    beyond the ends repeat the last one, and a position outside the line has weights of zero.

    Args:
        positions: ``(T,)`` voxel indices, fractional; the line reaches from -0.5 to count - 0.5.
        count: Voxels in the line.
    """
    base = np.floor(positions).astype(np.intp)
    taps = base[:, None] + np.arange(1 - _RADIUS, _RADIUS + 1)
    offset = positions[:, None] - taps
    weights = np.sinc(offset) * np.sinc(offset / _RADIUS)
    # On a centre the kernel is that voxel alone; sinc's rounding would add 1e-17 of the others.
    centred = positions == base
    weights[centred] = offset[centred] == 0.0
    weights[(positions < -0.5) | (positions > count - 0.5)] = 0.0
    return np.clip(taps, 0, count - 1), weights.astype(np.float32)


def sample_axes(
    array: NDArray[np.float32], positions: Sequence[NDArray[np.float64]]
) -> NDArray[np.float32]:
    """Interpolate with the Lanczos kernel on a grid parallel to the array's axes.

    Args:
        array: Any number of axes.
        positions: Per axis, the voxel indices of the values wanted.
    """
    # The axis that shrinks most goes first: less is left to do for the others.
    order = sorted(range(array.ndim), key=lambda axis: len(positions[axis]) / array.shape[axis])
    for axis in order:
        array = sample_axis(array, positions[axis], axis)
    return array


def sample_axis(
    array: NDArray[np.float32], positions: NDArray[np.float64], axis: int
) -> NDArray[np.float32]:
    """Interpolate with the Lanczos kernel along one axis.

    Args:
        array: Any number of axes.
        positions: The voxel indices of the values wanted.
        axis: Which.
    """
    taps, weights = lanczos_weights(positions, array.shape[axis])
    along = [1] * array.ndim
    along[axis] = -1
    # One multiply-add per tap, not a matrix product: the sum's order, and so its last bit, must not
    # depend on how many threads a library uses.
    result = np.take(array, taps[:, 0], axis=axis) * weights[:, 0].reshape(along)
    for tap in range(1, taps.shape[1]):
        result += np.take(array, taps[:, tap], axis=axis) * weights[:, tap].reshape(along)
    return result


def sample_any(
    array: NDArray[np.float32],
    to_source: NDArray[np.float64],
    shape: Sequence[int],
    interpolation: Interpolation,
) -> NDArray[np.float32]:
    """Interpolate with SimpleITK on a grid at any angle.

    Args:
        array: ``(R, A, S)``, or ``(R, A)`` for one slice.
        to_source: ``(4, 4)`` map from the grid's voxel indices to the array's.
        shape: The grid's voxels along each axis.
        interpolation: The kernel.
    """
    # SimpleITK's arrays are (z, y, x); spacing 1 and origin 0 make its millimetres our indices.
    solid = array.reshape(*array.shape, *[1] * (3 - array.ndim))
    source = sitk.GetImageFromArray(np.ascontiguousarray(solid.T))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_source[:3, :3].ravel().tolist())
    transform.SetTranslation(to_source[:3, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(count) for count in (*shape, *[1] * (3 - len(shape)))])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(_ITK[interpolation])
    resampler.SetDefaultPixelValue(0.0)
    values = sitk.GetArrayFromImage(resampler.Execute(source)).T
    return np.ascontiguousarray(values.reshape(values.shape[: array.ndim]), dtype=np.float32)
