"""Geometry for any scan: every axis order, flip, spacing, angle and origin keeps its millimetres.

The object is a ramp: each voxel's intensity is its own coordinate along one direction. Wherever the
ramp is resampled to, a voxel has to hold its own millimetres again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from small_volumes import itk_image

from voxella.imaging.geometry import centred_grid, padding_mm, share_outside, voxels_inside
from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import Volume, read_volume, write_volume
from voxella.recipe.model import Intensity, Prepare

Affine = NDArray[np.float64]
# Float32, in which NIfTI keeps an affine, over some hundred mm.
FLOAT32_MM = 1e-3

checked = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def millimetres(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, width=32, allow_subnormal=False)


@st.composite
def affines(draw: st.DrawFn, least_mm: float = 0.25) -> Affine:
    """Any rotation whatever; an eighth of them are axis orders and flips only."""
    turned = draw(st.integers(0, 7)) > 0
    if turned:
        quaternion = [draw(millimetres(-1, 1)) for _ in range(3)] + [draw(millimetres(0.125, 1))]
        matrix = Rotation.from_quat(quaternion).as_matrix()
    else:
        matrix = np.eye(3)
    order = draw(st.permutations(range(3)))
    flips = [draw(st.sampled_from([1.0, -1.0])) for _ in range(3)]
    spacing = [draw(millimetres(least_mm, 4.0)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = matrix[:, order] * flips * spacing
    affine[:3, 3] = [draw(millimetres(-150, 150)) for _ in range(3)]
    return affine


shapes = st.tuples(*[st.integers(3, 9)] * 3)
directions = st.tuples(*[st.sampled_from([-1.0, 0.5, 1.0])] * 3)


def coordinates(shape: tuple[int, ...], affine: Affine) -> NDArray[np.float64]:
    """``(*shape, 3)`` RAS mm of every voxel's centre."""
    index = np.stack([*np.indices(shape), np.ones(shape)], axis=-1)
    where: NDArray[np.float64] = (index @ affine.T)[..., :3]
    return where


def ramp(shape: tuple[int, ...], affine: Affine, along: tuple[float, ...]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = (coordinates(shape, affine) @ along).astype(np.float32)
    return values


@checked
@given(affines(), shapes, st.sampled_from([".nii", ".nii.gz", ".mha", ".nrrd"]), st.data())
def test_a_voxel_that_is_read_is_where_it_was_stored(
    affine: Affine, shape: tuple[int, ...], suffix: str, data: st.DataObject
) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        if suffix.startswith(".nii"):
            nib.save(nib.Nifti1Image(array, affine), path)
        else:
            sitk.WriteImage(itk_image(array, affine), str(path), True)
        volume = read_volume(path)
        again = read_volume(write_volume(path.with_name("b.nii"), volume.array, volume.affine))
    marked = tuple(data.draw(st.integers(0, count - 1)) for count in shape)
    where_mm = (affine @ (*marked, 1.0))[:3]
    for read in (volume, again):
        found = np.argwhere(read.array == array[marked])[0]
        np.testing.assert_allclose((read.affine @ (*found, 1.0))[:3], where_mm, atol=FLOAT32_MM)
    assert sorted(volume.array.ravel()) == sorted(array.ravel())
    # As near to R, A, S as turning by axes can bring it: no other order or flip is nearer.
    cosines = volume.affine[:3, :3] / volume.spacing_mm
    assert (np.diag(cosines) > 0).all()


@checked
@given(
    affine=affines(),
    shape=shapes,
    size=shapes,
    edges=st.tuples(*[st.none() | millimetres(2.0, 30.0)] * 3),
    shift=st.tuples(*[st.integers(-3, 3)] * 3),
    straighten=st.booleans(),
)
def test_a_crop_is_as_long_as_asked_for_around_the_middle_asked_for(
    affine: Affine,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    edges: tuple[float | None, ...],
    shift: tuple[int, ...],
    straighten: bool,
) -> None:
    volume = ras(np.zeros(shape, np.float32), affine)
    counts = np.array(volume.array.shape)
    grid = centred_grid(volume, edges, size, shift=shift, straighten=straighten)
    own = counts * volume.spacing_mm
    wanted = [length if edge is None else edge for edge, length in zip(edges, own, strict=True)]
    np.testing.assert_allclose(grid.spacing_mm * size, wanted, rtol=1e-9)
    middle = volume.affine @ (*((counts - 1) / 2 + shift), 1.0)
    np.testing.assert_allclose(grid.middle_mm, middle[:3], atol=1e-9)
    axes = np.eye(3) if straighten else volume.affine[:3, :3] / volume.spacing_mm
    np.testing.assert_allclose(grid.affine[:3, :3] / grid.spacing_mm, axes, atol=1e-9)
    # Nothing is padded exactly where nothing reaches beyond the scan.
    inside = 1 - share_outside(volume, grid)
    assert 0 <= inside <= 1
    if not straighten and padding_mm(volume, edges, shift) == [0.0, 0.0, 0.0]:
        assert inside == 1.0


@checked
@given(affines(1.0), affines(1.0), directions, st.booleans(), st.data())
def test_a_point_at_known_millimetres_is_found_after_every_step(
    first: Affine,
    second: Affine,
    along: tuple[float, float, float],
    straighten: bool,
    data: st.DataObject,
) -> None:
    """Two scans at any angle to each other: on the grid each voxel holds its own millimetres."""
    shape = (9, 10, 8)
    t2w = ras(ramp(shape, first, along), first)
    # The second scan's middle is the first one's, so that they meet.
    middle = t2w.affine @ (*np.divide(np.subtract(t2w.array.shape, 1), 2), 1.0)
    second = second.copy()
    second[:3, 3] = middle[:3] - second[:3, :3] @ (4.0, 4.5, 3.5)
    hbv = ras(ramp(shape, second, along), second)
    edges = [data.draw(st.none() | millimetres(4.0, 8.0)) for _ in range(3)]
    assume(voxels_inside(hbv, centred_grid(t2w, edges, (5, 4, 6), straighten=straighten)).size)
    rules = {
        name: Intensity(window=(float(scan.array.min()), float(scan.array.max())), percentiles=None)
        for name, scan in (("t2w", t2w), ("hbv", hbv))
    }
    prepared = prepare_images(
        {"t2w": t2w, "hbv": hbv},
        Prepare(
            crop_mm=edges,
            size=[5, 4, 6],
            interpolation="linear",
            intensity=rules,
            straighten=straighten,
        ),
    )
    expected = coordinates((5, 4, 6), prepared.affine) @ along
    for name, scan in (("t2w", t2w), ("hbv", hbv)):
        lowest, highest = prepared.facts["intensity_window"][name]
        values = prepared.images[name] * (highest - lowest) + lowest
        within = well_inside(scan, prepared.affine, (5, 4, 6))
        # What the window clips is no coordinate any more.
        within &= (expected > lowest) & (expected < highest)
        assume(within.any())
        np.testing.assert_allclose(values[within], expected[within], atol=FLOAT32_MM)


def ras(array: NDArray[np.float32], affine: Affine) -> Volume:
    """A scan stored in any order as :func:`read_volume` returns it, by nibabel's own means."""
    image = nib.as_closest_canonical(nib.Nifti1Image(array, affine))
    return Volume(np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine))


def well_inside(scan: Volume, affine: Affine, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Tell which voxels of a grid lie between voxel centres of the scan, not beyond the last."""
    index = coordinates(shape, np.linalg.inv(scan.affine) @ affine)
    last = np.subtract(scan.array.shape, 1)
    return np.asarray(((index >= 1e-6) & (index <= last - 1e-6)).all(axis=-1))
