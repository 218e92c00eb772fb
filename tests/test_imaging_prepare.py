"""Preparing one case: masks, straightening, rules by sequence, several sequences on one grid."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from monai.transforms import ScaleIntensityRangePercentiles
from numpy.typing import NDArray
from small_volumes import blob, centre_of_mass_mm, itk_image, noise, oblique

from voxella.errors import UserError
from voxella.imaging.geometry import centred_grid, padding_mm, share_outside
from voxella.imaging.interpolation import Interpolation
from voxella.imaging.prepare import Prepared, prepare_images
from voxella.imaging.volume import Volume, read_volume
from voxella.recipe.model import Intensity, Prepare

KERNELS = {
    "lanczos": sitk.sitkLanczosWindowedSinc,
    "linear": sitk.sitkLinear,
    "bspline": sitk.sitkBSpline,
}


def by_simpleitk(
    image: sitk.Image, prepared: Prepared, kernel: int, ends: tuple[float, float] | None = (0, 1)
) -> NDArray[np.float32]:
    """Resample onto the prepared grid, which is given in LPS millimetres, and clip."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ prepared.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    size = next(iter(prepared.images.values())).shape
    resampled = sitk.Resample(
        image,
        [int(count) for count in size],
        sitk.Transform(),
        kernel,
        lps[:3, 3].tolist(),
        spacing.tolist(),
        (lps[:3, :3] / spacing).ravel().tolist(),
        0.0,
    )
    if ends is not None:
        resampled = sitk.Clamp(resampled, sitk.sitkFloat32, *ends)
    values: NDArray[np.float32] = sitk.GetArrayFromImage(resampled).T
    return values


@pytest.mark.parametrize("interpolation", ["lanczos", "linear", "bspline"])
@pytest.mark.parametrize("straighten", [False, True])
def test_a_turned_second_sequence_is_simpleitks(
    interpolation: Interpolation, straighten: bool
) -> None:
    """ADC with its own voxels and angle, on the T2 grid, by its fixed window."""
    t2w = Volume(noise((30, 28, 9)), oblique((0.9, 0.9, 3.0)))
    adc_affine = oblique((1.6, 1.5, 3.4), degrees=(4.0, 3.0), origin=(-36.0, 4.0, 6.0))
    adc = Volume(noise((20, 20, 8), seed=2) * 4000 - 200, adc_affine)
    settings = Prepare(
        crop_mm=[20.0, 18.0, None],
        size=[14, 12, 8],
        interpolation=interpolation,
        straighten=straighten,
    )
    prepared = prepare_images({"t2w": t2w, "adc": adc}, settings)
    windowed = sitk.IntensityWindowing(itk_image(adc.array, adc_affine), 0.0, 3000.0, 0.0, 1.0)
    expected = by_simpleitk(windowed, prepared, KERNELS[interpolation])
    np.testing.assert_allclose(prepared.images["adc"], expected, atol=1e-4)
    assert prepared.facts["intensity_window"]["adc"] == [0.0, 3000.0]
    # And the reference sequence itself, by the window that was recorded.
    low, high = prepared.facts["intensity_window"]["t2w"]
    windowed = sitk.IntensityWindowing(itk_image(t2w.array, t2w.affine), low, high, 0.0, 1.0)
    expected = by_simpleitk(windowed, prepared, KERNELS[interpolation])
    np.testing.assert_allclose(prepared.images["t2w"], expected, atol=1e-4)


def test_a_straightened_scan_lies_along_the_scanners_axes_around_the_same_middle() -> None:
    affine = oblique((0.7, 0.7, 2.0))
    centre_mm = np.array([-2.0, 30.0, 36.0])
    volume = Volume(blob((70, 70, 30), affine, centre_mm), affine)
    settings = Prepare(
        crop_mm=[40.0, 40.0, None], size=[40, 40, 30], straighten=True, interpolation="linear"
    )
    prepared = prepare_images({"t2w": volume}, settings)
    np.testing.assert_allclose(prepared.affine[:3, :3], np.diag([1.0, 1.0, 2.0]), atol=1e-12)
    middle = affine @ (34.5, 34.5, 14.5, 1.0)
    np.testing.assert_allclose(prepared.affine @ (19.5, 19.5, 14.5, 1.0), middle)
    found = centre_of_mass_mm(prepared.images["t2w"], prepared.affine)
    np.testing.assert_allclose(found, centre_mm, atol=0.05)
    assert prepared.facts["straightened"] is True
    angle = np.degrees(np.arccos(np.cos(np.radians(12)) * np.cos(np.radians(7))))
    assert 12.0 < prepared.facts["oblique_degrees"]["t2w"] <= angle + 0.01
    # The corners of the upright box stick out of the tilted slab.
    assert 0.0 < prepared.facts["padded_share"]["t2w"] < 0.3


@pytest.mark.parametrize("size", [[14, 12, 8], [40, 12, 8]])
def test_percentiles_of_the_resampled_volume_are_the_released_ones(size: list[int]) -> None:
    """MONAI's transform on SimpleITK's volume, called as the released code calls it."""
    affine = oblique((0.9, 0.9, 3.0))
    volume = Volume(noise((30, 28, 9)) * 700 + 20, affine)
    # The second crop reaches beyond the scan: its padding counts.
    given = {"crop_mm": [0.9 * size[0], 18.0, None], "size": size}
    prepared = prepare_images({"t2w": volume}, Prepare(**given, percentiles_of="resampled"))
    unclipped = by_simpleitk(itk_image(volume.array, affine), prepared, KERNELS["lanczos"], None)
    released = ScaleIntensityRangePercentiles(0, 99.5, 0.0, 1.0, clip=True)(unclipped)
    np.testing.assert_allclose(prepared.images["t2w"], np.asarray(released), atol=1e-4)
    window = prepared.facts["intensity_window"]["t2w"]
    np.testing.assert_allclose(window, np.percentile(unclipped, [0, 99.5]), rtol=1e-4)
    ours = prepare_images({"t2w": volume}, Prepare(**given))
    assert ours.facts["intensity_window"]["t2w"] != window
    # A fixed window knows no percentiles.
    fixed = {"t2w": Intensity(window=(0.0, 700.0))}
    both = [
        prepare_images({"t2w": volume}, Prepare(**given, intensity=fixed, percentiles_of=of))
        for of in ("crop", "resampled")
    ]
    np.testing.assert_array_equal(both[0].images["t2w"], both[1].images["t2w"])


def test_straightening_changes_nothing_where_nothing_is_oblique() -> None:
    volume = Volume(noise((20, 18, 6)), np.diag([1.0, 1.5, 3.0, 1.0]))
    settings = {"crop_mm": [11.0, None, None], "size": [13, 9, 6]}
    plain = prepare_images({"t2w": volume}, Prepare(**settings))
    straight = prepare_images({"t2w": volume}, Prepare(**settings, straighten=True))
    np.testing.assert_array_equal(plain.images["t2w"], straight.images["t2w"])
    np.testing.assert_allclose(plain.affine, straight.affine, atol=1e-12)
    assert plain.facts["oblique_degrees"] == {"t2w": 0.0}


def test_the_crop_lies_around_a_mask_on_another_grid() -> None:
    scan = Volume(noise((60, 50, 10)), oblique((0.5, 0.5, 3.0)))
    middle_mm = (scan.affine @ (20.3, 31.2, 4.0, 1.0))[:3]
    # A ball of a mask with its own voxels and angle.
    mask_affine = oblique((0.8, 0.8, 2.0), degrees=(2.0, 9.0), origin=(-36.0, 8.0, 0.0))
    gland = Volume(
        (blob((50, 50, 24), mask_affine, middle_mm) > 500).astype(np.float32), mask_affine
    )
    settings = Prepare(
        crop_mm=[10.0, 10.0, None], size=[20, 20, 10], percentiles=(0, 100), crop_around="gland"
    )
    prepared = prepare_images({"t2w": scan}, settings, gland)
    # The nearest middle that 20 whole voxels can have: voxels are copied, not interpolated.
    inside = scan.array[11:31, 22:42]
    low, high = inside.min(), inside.max()
    np.testing.assert_allclose(prepared.images["t2w"], (inside - low) / (high - low), atol=1e-6)
    centre = scan.affine @ (20.5, 31.5, 4.5, 1.0)
    np.testing.assert_allclose(prepared.facts["crop_centre_mm"], centre[:3], atol=1e-4)
    to_scan = np.linalg.solve(scan.affine, (*middle_mm, 1.0))
    assert np.abs(to_scan[:2] - (20.5, 31.5)).max() < 0.5
    assert prepared.facts["padded_mm"] == [0.0, 0.0, 0.0]


def test_a_crop_around_a_mask_near_the_edge_is_padded_and_recorded() -> None:
    scan = Volume(noise((20, 20, 4)) + 1.0, np.diag([1.0, 2.0, 3.0, 1.0]))
    mask = np.zeros((20, 20, 4), np.float32)
    mask[2:5, 10, 1] = 1
    settings = Prepare(crop_mm=[10.0, 8.0, None], size=[10, 4, 4], crop_around="gland")
    prepared = prepare_images({"t2w": scan}, settings, Volume(mask, scan.affine))
    # From voxel 3 to its lower edge are 3.5 mm; 5 are wanted.
    assert prepared.facts["padded_mm"] == [2.0, 0.0, 0.0]
    assert prepared.facts["padded_share"] == {"t2w": 0.2}
    assert not prepared.images["t2w"][:2].any()
    assert (prepared.images["t2w"][2:] > 0).mean() > 0.9


def test_masks_that_are_no_use_are_named() -> None:
    scan = Volume(noise((10, 10, 4)), np.eye(4))
    settings = Prepare(crop_mm=[5.0, 5.0, None], size=[5, 5, 4], crop_around="gland")
    for mask, words in (
        (None, "gland: there is no such mask"),
        (Volume(np.zeros((10, 10, 4), np.float32), np.eye(4)), "gland: the mask is empty"),
        (
            Volume(np.ones((10, 10, 4), np.float32), oblique((1.0, 1.0, 1.0))),
            "is outside the first sequence's field of view",
        ),
    ):
        with pytest.raises(UserError, match=words):
            prepare_images({"t2w": scan}, settings, mask)


def test_a_mask_that_is_a_sequence_stays_a_mask() -> None:
    scan = Volume(noise((12, 12, 4)), np.eye(4))
    zones = np.zeros((12, 12, 4), np.float32)
    zones[4:8, 4:8, 1], zones[4:8, 4:8, 2] = 1, 2
    settings = Prepare(crop_mm=[7.0, 7.0, None], size=[19, 19, 8], crop_around="gland")
    gland = Volume(zones, np.eye(4))
    prepared = prepare_images({"t2w": scan, "gland": gland}, settings, gland)
    assert np.unique(prepared.images["gland"]).tolist() == [0.0, 1.0]
    assert "gland" not in prepared.facts["intensity_window"]
    np.testing.assert_allclose(
        centre_of_mass_mm(prepared.images["gland"], prepared.affine), (5.5, 5.5, 1.5), atol=0.05
    )


def test_all_48_ways_to_store_a_case_prepare_to_the_same_bits(tmp_path: Path) -> None:
    """Scan, second sequence and mask, each stored another way each time, and straightened."""
    affines = {
        "t2w": oblique((0.7, 0.6, 3.0)),
        "hbv": oblique((1.3, 1.2, 3.5), degrees=(8.0, -4.0)),
        "gland": oblique((0.7, 0.6, 3.0)),
    }
    arrays = {
        "t2w": noise((20, 24, 9), seed=1) * 900,
        "hbv": noise((14, 15, 9), seed=2) * 400,
        "gland": (blob((20, 24, 9), affines["gland"], np.array([-23.0, 19.0, 16.0])) > 300),
    }
    settings = Prepare(
        crop_mm=[9.0, 11.0, None],
        size=[12, 10, 7],
        interpolation="linear",
        crop_around="gland",
        straighten=True,
    )
    orders = itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)
    ways = [
        np.array(list(zip(a, f, strict=True)), dtype=float) for a, f in itertools.product(*orders)
    ]
    first = None
    for number in range(48):
        volumes = {}
        for shift, (name, array) in enumerate(arrays.items()):
            way = ways[(number + 17 * shift) % 48]
            stored = nib.orientations.apply_orientation(array.astype(np.float32), way)
            back = nib.orientations.inv_ornt_aff(way, array.shape)
            path = tmp_path / f"{name}.nii"
            nib.save(nib.Nifti1Image(stored, affines[name] @ back), path)
            volumes[name] = read_volume(path)
        mask = volumes.pop("gland")
        prepared = prepare_images(volumes, settings, mask)
        first = first or prepared
        np.testing.assert_array_equal(prepared.images["t2w"], first.images["t2w"])
        # The two sequences' origins are rounded to float32 each in its own corner.
        np.testing.assert_allclose(prepared.images["hbv"], first.images["hbv"], atol=2e-5)
        np.testing.assert_allclose(prepared.affine, first.affine, atol=1e-5)


def test_rules_by_sequence() -> None:
    settings = Prepare(intensity={"hbv": Intensity(percentiles=(1, 99))})
    assert settings.intensity_of("adc").window == (0.0, 3000.0), "kept beside another's rule"
    assert settings.intensity_of("ADC").window == (0.0, 3000.0)
    assert settings.intensity_of("hbv").percentiles == (1, 99)
    assert settings.intensity_of("t2w").percentiles == (0.0, 99.5)
    own = Prepare(intensity={"adc": Intensity(percentiles=(0, 90))})
    assert own.intensity_of("adc").percentiles == (0, 90)
    assert Prepare.model_validate(own.model_dump()) == own


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "exactly one"),
        ({"window": (0, 1), "percentiles": (0, 1)}, "exactly one"),
        ({"window": (5, 5)}, "low < high"),
        ({"percentiles": (0, 101)}, "percentiles 0 to 100"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Intensity.model_validate(rule)


@pytest.mark.parametrize(("scale", "shown"), [(0.001, "to 2.19"), (1e6, "(7.0")])
def test_an_adc_map_in_other_units_is_named(scale: float, shown: str) -> None:
    array = (noise((8, 8, 8)) * 1500 + 700) * scale
    with pytest.raises(UserError, match="do not fit the fixed window 0 to 3000") as caught:
        prepare_images(
            {"adc": Volume(array.astype(np.float32), np.eye(4))},
            Prepare(crop_mm=[None] * 3, size=[8, 8, 8]),
        )
    assert "prepare.intensity.adc.window" in str(caught.value)
    assert shown in str(caught.value)


def test_what_a_shorter_second_scan_does_not_reach_is_recorded() -> None:
    t2w = Volume(noise((16, 16, 8)), np.eye(4))
    short = np.eye(4)
    short[2, 3] = 2.0
    adc = Volume(noise((16, 16, 4)) * 2000, short)
    settings = Prepare(crop_mm=[8.0, 8.0, None], size=[8, 8, 8], interpolation="linear")
    prepared = prepare_images({"t2w": t2w, "adc": adc}, settings)
    assert prepared.facts["padded_mm"] == [0.0, 0.0, 0.0]
    assert prepared.facts["padded_share"] == {"adc": 0.5}
    assert not prepared.images["adc"][..., [0, 1, 6, 7]].any()


def test_the_share_outside_is_that_of_a_count_voxel_by_voxel() -> None:
    volume = Volume(noise((9, 8, 7)), oblique((1.0, 1.2, 2.0)))
    grid = centred_grid(volume, (14.0, 9.0, 12.0), (9, 8, 7), shift=(2, 0, -1), straighten=True)
    index = np.stack([*np.indices(grid.shape), np.ones(grid.shape)]).reshape(4, -1)
    source = (np.linalg.inv(volume.affine) @ grid.affine @ index)[:3]
    counts = np.array(volume.array.shape)[:, None]
    inside = ((source >= -0.5) & (source <= counts - 0.5)).all(axis=0)
    assert share_outside(volume, grid) == pytest.approx(1 - inside.mean())
    assert padding_mm(volume, (14.0, 9.0, 12.0), (2, 0, -1)) == pytest.approx([5.0, 0.0, 1.0])


def test_a_flat_image_is_cropped_around_its_mask() -> None:
    picture = Volume(noise((20, 16, 1)), np.diag([0.5, 0.5, 1.0, 1.0]))
    mask = np.zeros((20, 16, 1), np.float32)
    mask[12, 5] = 255
    settings = Prepare(crop_mm=[3.0, 3.0], size=[6, 6], crop_around="gland", percentiles=(0, 100))
    prepared = prepare_images({"he": picture}, settings, Volume(mask, picture.affine))
    cut = picture.array[9:15, 2:8, 0]
    expected = (cut - cut.min()) / (cut.max() - cut.min())
    np.testing.assert_allclose(prepared.images["he"], expected, atol=1e-6)
