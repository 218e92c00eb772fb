"""Grids and resampling: known millimetres, SimpleITK as second opinion, exact symmetries."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from small_volumes import blob, centre_of_mass_mm, noise, oblique

from voxella.errors import UserError
from voxella.imaging.geometry import centred_grid, padding_mm, resample, voxels_inside
from voxella.imaging.interpolation import Interpolation, lanczos_weights, sample_any, sample_axes
from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import Volume, read_volume, write_volume
from voxella.recipe.model import Prepare


def test_a_point_is_where_it_was_after_every_step(tmp_path: Path) -> None:
    affine = oblique((0.7, 0.6, 3.0))
    # Some mm off the middle of the field of view, whole inside the crop.
    centre_mm = np.array([4.5, 29.0, 42.0])
    raw = blob((90, 100, 24), affine, centre_mm, sigma_mm=3.0)
    path = write_volume(tmp_path / "raw.nii.gz", raw, affine)
    volume = read_volume(path)
    np.testing.assert_allclose(centre_of_mass_mm(volume.array, volume.affine), centre_mm, atol=0.02)
    grid = centred_grid(volume, (48.0, 48.0, None), (64, 64, 48))
    moved = resample(volume, grid, "lanczos")
    np.testing.assert_allclose(centre_of_mass_mm(moved, grid.affine), centre_mm, atol=0.02)
    settings = Prepare(crop_mm=[48.0, 48.0, None], size=[64, 64, 48])
    prepared = prepare_images({"t2w": volume}, settings)
    np.testing.assert_allclose(
        centre_of_mass_mm(prepared.images["t2w"], prepared.affine), centre_mm, atol=0.05
    )
    written = read_volume(
        write_volume(tmp_path / "p.nii.gz", prepared.images["t2w"], prepared.affine)
    )
    np.testing.assert_allclose(
        centre_of_mass_mm(written.array, written.affine), centre_mm, atol=0.05
    )


def test_the_grid_divides_a_box_around_the_middle_of_the_field_of_view() -> None:
    volume = Volume(noise((11, 8, 5)), oblique((0.5, 0.75, 3.0)))
    grid = centred_grid(volume, (4.0, None, 20.0), (8, 4, 10))
    np.testing.assert_allclose(grid.spacing_mm, (0.5, 1.5, 2.0))
    middle_of_scan = volume.affine @ (5.0, 3.5, 2.0, 1.0)
    middle_of_grid = grid.affine @ (3.5, 1.5, 4.5, 1.0)
    np.testing.assert_allclose(middle_of_grid, middle_of_scan)
    # Axes stay parallel: obliquity is kept.
    for axis in range(3):
        cosine = grid.affine[:3, axis] @ volume.affine[:3, axis]
        assert cosine / (grid.spacing_mm[axis] * volume.spacing_mm[axis]) == pytest.approx(1.0)
    assert padding_mm(volume, (4.0, None, 20.0)) == [0.0, 0.0, 5.0]


def test_the_papers_crop_takes_whole_voxels_and_changes_none() -> None:
    """128 mm at 0.5 mm from 384 voxels is voxels 128 to 255, so every kernel returns them."""
    volume = Volume(noise((384, 384, 3)), oblique((0.5, 0.5, 3.0)))
    grid = centred_grid(volume, (128.0, 128.0, None), (256, 256, 3))
    expected = volume.array[64:320, 64:320]
    np.testing.assert_array_equal(resample(volume, grid, "lanczos"), expected)
    np.testing.assert_allclose(resample(volume, grid, "linear"), expected, atol=1e-6)
    assert sorted(voxels_inside(volume, grid)) == sorted(expected.ravel())


@pytest.mark.parametrize("size", [(13, 30, 9), (40, 11, 21)])
def test_lanczos_axis_by_axis_is_simpleitks(size: tuple[int, int, int]) -> None:
    volume = Volume(noise((23, 19, 14), seed=3), oblique((0.9, 1.1, 2.0)))
    grid = centred_grid(volume, (16.0, 40.0, None), size)
    to_source = np.round(np.linalg.solve(volume.affine, grid.affine), 9)
    slow = sample_any(volume.array, to_source, grid.shape, "lanczos")
    np.testing.assert_allclose(resample(volume, grid, "lanczos"), slow, atol=2e-6)
    assert (slow[:, 0] == 0).all(), "40 mm exceed the field of view along A"


def test_lanczos_weights_have_their_closed_form() -> None:
    taps, weights = lanczos_weights(np.array([7.25, 3.0, -0.6, 20.4]), 20)
    assert taps[0].tolist() == list(range(3, 13))
    x = 7.25 - np.arange(3, 13)
    expected = np.sin(np.pi * x) / (np.pi * x) * np.sin(np.pi * x / 5) / (np.pi * x / 5)
    np.testing.assert_allclose(weights[0], expected, atol=1e-7)
    assert weights[1].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert not weights[2:].any(), "outside the line"


def test_any_number_of_axes() -> None:
    flat = noise((12, 10))
    same = sample_axes(flat, [np.arange(12.0), np.arange(10.0)])
    np.testing.assert_array_equal(same, flat)


@pytest.mark.parametrize("interpolation", ["lanczos", "linear", "bspline"])
def test_all_48_ways_to_store_one_scan_prepare_to_the_same_bits(
    tmp_path: Path, interpolation: Interpolation
) -> None:
    array = noise((20, 24, 9), seed=1) * 900
    affine = oblique((0.7, 0.6, 3.0))
    settings = Prepare(crop_mm=[9.0, 16.0, None], size=[16, 12, 10], interpolation=interpolation)
    seen = set()
    first = None
    orders = itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    for axes, flips in itertools.product(*orders):
        orientation = np.array(list(zip(axes, flips, strict=True)), dtype=float)
        stored = nib.orientations.apply_orientation(array, orientation)
        back = nib.orientations.inv_ornt_aff(orientation, array.shape)
        path = tmp_path / "stored.nii"
        nib.save(nib.Nifti1Image(stored, affine @ back), path)
        prepared = prepare_images({"t2w": read_volume(path)}, settings)
        seen.add(nib.aff2axcodes(affine @ back))
        first = first or prepared
        np.testing.assert_array_equal(prepared.images["t2w"], first.images["t2w"])
        np.testing.assert_allclose(prepared.affine, first.affine, atol=1e-5)
    assert len(seen) == 48


@pytest.mark.parametrize("interpolation", ["lanczos", "linear", "bspline"])
def test_intensities_are_those_of_an_independent_simpleitk_computation(
    interpolation: Interpolation,
) -> None:
    """Crop, percentiles, windowing and resampling by SimpleITK's filters in LPS millimetres."""
    array = noise((41, 37, 12), seed=5) * 1500 + 20
    affine = oblique((0.8, 0.9, 3.3))
    kernel = {
        "lanczos": sitk.sitkLanczosWindowedSinc,
        "linear": sitk.sitkLinear,
        "bspline": sitk.sitkBSpline,
    }[interpolation]
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.array([0.8, 0.9, 3.3])
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(spacing.tolist())
    direction = lps[:3, :3] / spacing
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    # 24.4 mm reach 15.25 voxels of 0.8 mm to either side of the middle one, 18.4 mm 10.2 of 0.9.
    crop = sitk.RegionOfInterest(image, [31, 21, 12], [5, 8, 0])
    low, high = np.percentile(sitk.GetArrayFromImage(crop), (1.0, 99.5))
    windowed = sitk.IntensityWindowing(image, float(low), float(high), 0.0, 1.0)
    extent = np.array([24.4, 18.4, 12 * 3.3])
    size = np.array([20, 24, 16])
    middle = image.TransformContinuousIndexToPhysicalPoint([20.0, 18.0, 5.5])
    origin = np.array(middle) + direction @ (-extent / 2 + extent / size / 2)
    resampled = sitk.Resample(
        windowed,
        size.tolist(),
        sitk.Transform(),
        kernel,
        origin.tolist(),
        (extent / size).tolist(),
        direction.ravel().tolist(),
        0.0,
    )
    expected = sitk.GetArrayFromImage(sitk.Clamp(resampled, sitk.sitkFloat32, 0.0, 1.0)).T
    settings = Prepare(
        crop_mm=[24.4, 18.4, None],
        size=size.tolist(),
        percentiles=(1.0, 99.5),
        interpolation=interpolation,
    )
    ours = prepare_images({"t2w": Volume(array, affine)}, settings)
    np.testing.assert_allclose(ours.images["t2w"], expected, atol=1e-4)
    assert ours.facts["intensity_window"]["t2w"] == pytest.approx([low, high], rel=1e-6)


def test_another_sequence_lands_on_the_first_ones_grid() -> None:
    """A second scan of one object, with its own voxels, angle and origin."""
    t2w_affine = oblique((0.7, 0.7, 3.0))
    hbv_affine = oblique((1.4, 1.3, 2.5), degrees=(4.0, 3.0), origin=(-38.0, 5.0, -2.0))
    centre_mm = np.array([-8.0, 36.0, 30.0])
    volumes = {
        "t2w": Volume(blob((80, 84, 22), t2w_affine, centre_mm), t2w_affine),
        "hbv": Volume(blob((60, 66, 30), hbv_affine, centre_mm), hbv_affine),
    }
    for interpolation in ("linear", "bspline"):
        settings = Prepare(
            crop_mm=[40.0, 40.0, None], size=[40, 40, 33], interpolation=interpolation
        )
        prepared = prepare_images(volumes, settings)
        both = prepared.images
        assert both["hbv"].shape == both["t2w"].shape == (40, 40, 33)
        found = centre_of_mass_mm(np.clip(both["hbv"] - 0.05, 0, None), prepared.affine)
        np.testing.assert_allclose(found, centre_mm, atol=0.1)
        assert np.corrcoef(both["hbv"].ravel(), both["t2w"].ravel())[0, 1] > 0.995


def test_a_sequence_that_lies_elsewhere_is_named() -> None:
    near = Volume(noise((10, 10, 10)), np.eye(4))
    far = Volume(noise((10, 10, 10)), oblique((1.0, 1.0, 1.0), origin=(500.0, 0.0, 0.0)))
    with pytest.raises(UserError, match="adc: none of it lies within"):
        prepare_images({"t2w": near, "adc": far}, Prepare(crop_mm=[None] * 3, size=[8, 8, 8]))


def test_a_short_field_of_view_is_padded_with_dark_and_recorded() -> None:
    volume = Volume(noise((20, 30, 8)) + 5.0, np.diag([1.0, 1.0, 3.0, 1.0]))
    settings = Prepare(crop_mm=[32.0, 20.0, None], size=[32, 20, 8], percentiles=(0, 100))
    prepared = prepare_images({"t2w": volume}, settings)
    image = prepared.images["t2w"]
    assert prepared.facts["padded_mm"] == [12.0, 0.0, 0.0]
    assert prepared.facts["spacing_mm"] == [1.0, 1.0, 3.0]
    assert not image[:6].any()
    assert not image[26:].any()
    window = volume.array[:, 5:25].min(), volume.array[:, 5:25].max()
    np.testing.assert_allclose(
        image[6:26], (volume.array[:, 5:25] - window[0]) / (window[1] - window[0]), atol=1e-6
    )


def test_values_that_are_not_finite_become_dark_and_are_counted() -> None:
    array = noise((12, 12, 12)) + 1.0
    array[3, 4, 5], array[6, 6, 6] = np.nan, np.inf
    settings = Prepare(crop_mm=[None] * 3, size=[12, 12, 12], percentiles=(0, 100))
    prepared = prepare_images({"t2w": Volume(array, np.eye(4))}, settings)
    assert prepared.facts["nonfinite_voxels"] == {"t2w": 2}
    assert np.isfinite(prepared.images["t2w"]).all()
    assert prepared.images["t2w"][3, 4, 5] == prepared.images["t2w"][6, 6, 6] == 0.0


def test_constant_images_are_named() -> None:
    flat = Volume(np.full((8, 8, 8), 7, np.float32), np.eye(4))
    with pytest.raises(UserError, match="t2w: constant inside the crop"):
        prepare_images({"t2w": flat}, Prepare(crop_mm=[None] * 3, size=[8, 8, 8]))


def test_two_dimensions() -> None:
    volume = Volume(noise((20, 16, 1)), np.diag([0.5, 0.5, 1.0, 1.0]))
    settings = Prepare(crop_mm=[8.0, 8.0], size=[16, 16], percentiles=(0, 100))
    prepared = prepare_images({"he": volume}, settings)
    assert prepared.images["he"].shape == (16, 16)
    assert prepared.facts["spacing_mm"] == [0.5, 0.5]
    thick = Volume(noise((20, 16, 2)), np.eye(4))
    with pytest.raises(UserError, match="images of one slice; he has 2"):
        prepare_images({"he": thick}, settings)
