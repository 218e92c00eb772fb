"""Random changes of images against closed forms, scipy and torch; artefacts of MRI."""

from __future__ import annotations

import json
import math
import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter
from torch import Tensor, nn

from voxella.imaging.augment import Change, augmented, draw
from voxella.recipe.augment import ARTEFACTS, Augment

STILL = Change(flip=False, rotate=0.0, shift=(0.0, 0.0, 0.0), zoom=1.0)


def moved(image: Tensor, change: Change, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Tensor:
    return augmented(image[None], change, spacing)[0]


def by_torch(image: Tensor, change: Change, spacing: tuple[float, ...]) -> Tensor:
    """Move an image as this project did before: flip, then torch's ``grid_sample``."""
    axes, size = image.ndim, image.shape
    turn = torch.eye(axes, dtype=torch.float64)
    cosine, sine = math.cos(math.radians(change.rotate)), math.sin(math.radians(change.rotate))
    turn[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    half_mm = torch.tensor(size, dtype=torch.float64) * torch.tensor(spacing).double() / 2
    back = torch.diag(1 / half_mm) @ turn.T @ torch.diag(half_mm) / change.zoom
    shift = 2 * torch.tensor(change.shift, dtype=torch.float64)
    matrix = torch.cat([back.flip(0, 1), -(back @ shift).flip(0)[:, None]], dim=1).float()
    flipped = image.flip(0) if change.flip else image
    grid = nn.functional.affine_grid(matrix[None], [1, 1, *size], align_corners=False)
    return nn.functional.grid_sample(flipped[None, None], grid, align_corners=False)[0, 0]


def only(name: str, **settings: Any) -> Augment:
    return Augment.model_validate({"probability": 0, name: {"probability": 1, **settings}})


def body(size: tuple[int, ...] = (24, 20, 12)) -> Tensor:
    """A bright ellipsoid in the dark, with noise."""
    axes = [torch.linspace(-1, 1, n) for n in size]
    inside = sum(a**2 for a in torch.meshgrid(*axes, indexing="ij")) < 0.7
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
    return (0.5 * inside + 0.2 * noise)[None]


def voxel(size: tuple[int, ...], *at: int) -> Tensor:
    image = torch.zeros(size)
    image[at] = 1.0
    return image


def brightest(image: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(image.argmax()), image.shape))


# motions


def test_without_probability_nothing_moves_to_the_last_bit() -> None:
    image = torch.rand(7, 6, 5, generator=torch.Generator().manual_seed(2))
    for epoch in range(20):
        motion = draw(Augment(probability=0.0), 3, seed=0, case_id="a", epoch=epoch)
        assert motion == STILL
        assert torch.equal(moved(image, motion), image)


def test_a_draw_is_a_function_of_seed_case_and_epoch() -> None:
    def one(seed: int, case: str, epoch: int) -> Change:
        return draw(Augment(probability=1.0), 3, seed=seed, case_id=case, epoch=epoch)

    assert one(0, "a", 3) == one(0, "a", 3)
    assert len({one(0, "a", 3), one(1, "a", 3), one(0, "b", 3), one(0, "a", 4)}) == 4


def test_draws_are_as_often_and_as_far_as_asked() -> None:
    drawn = [draw(Augment(), 3, seed=0, case_id=str(n), epoch=0) for n in range(2000)]
    happened = {
        "flip": [motion.flip for motion in drawn],
        "rotate": [motion.rotate != 0 for motion in drawn],
        "shift": [any(motion.shift) for motion in drawn],
        "zoom": [motion.zoom != 1 for motion in drawn],
    }
    for name, flags in happened.items():
        # Four standard errors of a share of one half.
        assert abs(np.mean(flags) - 0.5) < 4 * math.sqrt(0.25 / 2000), name
    angles = np.array([motion.rotate for motion in drawn])
    shifts = np.array([motion.shift for motion in drawn])
    zooms = np.array([motion.zoom for motion in drawn])
    assert 14 < np.abs(angles).max() <= 15
    assert angles.min() < -14
    assert 0.095 < np.abs(shifts).max() <= 0.1
    assert (zooms.min() < 0.91, zooms.max() > 1.09) == (True, True)
    assert zooms.min() >= 0.9
    assert zooms.max() <= 1.1


def test_a_rotation_by_90_degrees_moves_a_voxel_from_r_to_a() -> None:
    quarter = Change(flip=False, rotate=90.0, shift=(0.0,) * 3, zoom=1.0)
    image = voxel((9, 9, 3), 7, 4, 1)  # 3 voxels towards R from the centre
    turned = moved(image, quarter)
    assert brightest(turned) == (4, 7, 1)  # 3 towards A
    assert float(turned[4, 7, 1]) == pytest.approx(1.0, abs=1e-5)


def test_angles_hold_in_millimetres() -> None:
    """Voxels of 1 x 2 mm: 4 voxels towards R are 4 mm, hence 2 voxels towards A."""
    quarter = Change(flip=False, rotate=90.0, shift=(0.0,) * 3, zoom=1.0)
    turned = moved(voxel((13, 9, 3), 10, 4, 1), quarter, spacing=(1.0, 2.0, 3.0))
    assert brightest(turned) == (6, 6, 1)


def test_shift_zoom_and_flip_move_a_voxel_where_they_should() -> None:
    shifted = moved(voxel((8, 8, 8), 3, 3, 3), Change(False, 0.0, (0.25, 0.0, -0.125), 1.0))
    assert brightest(shifted) == (5, 3, 2)
    zoomed = moved(voxel((9, 9, 9), 6, 4, 3), Change(False, 0.0, (0.0,) * 3, 2.0))
    assert brightest(zoomed) == (8, 4, 2)
    image = torch.rand(6, 5, 4)
    assert torch.equal(moved(image, Change(True, 0.0, (0.0,) * 3, 1.0)), image.flip(0))


def test_a_motion_is_what_scipy_makes_of_it() -> None:
    image = torch.rand(14, 12, 10, generator=torch.Generator().manual_seed(3))
    spacing = np.array([1.0, 1.5, 3.0])
    motion = Change(flip=False, rotate=math.degrees(0.2), shift=(0.05, -0.08, 0.1), zoom=1.07)
    cosine, sine = math.cos(0.2), math.sin(0.2)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    back = np.diag(1 / spacing) @ turn.T @ np.diag(spacing) / 1.07
    size = np.array(image.shape)
    centre = (size - 1) / 2
    offset = centre - back @ (centre + np.array(motion.shift) * size)
    expected = affine_transform(image.numpy(), back, offset, order=1, mode="grid-constant")
    found = moved(image, motion, tuple(spacing.tolist())).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_in_two_dimensions_too() -> None:
    image = voxel((9, 9), 7, 4)
    motion = draw(Augment(probability=1.0), 2, seed=0, case_id="a", epoch=0)
    assert len(motion.shift) == 2
    quarter = Change(flip=False, rotate=90.0, shift=(0.0, 0.0), zoom=1.0)
    assert brightest(moved(image, quarter, (1.0, 1.0))) == (4, 7)


def test_each_axis_has_its_own_furthest_move() -> None:
    wanted = Augment(probability=1.0, translate_share=[0.1, 0.1, 2 / 32])
    drawn = np.array([draw(wanted, 3, seed=0, case_id=str(n), epoch=0).shift for n in range(2000)])
    assert np.abs(drawn).max(axis=0) == pytest.approx([0.1, 0.1, 2 / 32], rel=0.01)


@pytest.mark.parametrize("size", [(24, 20, 12), (17, 22, 9), (24, 20)])
def test_moves_are_what_they_were_before_torchio(size: tuple[int, ...]) -> None:
    """To 5e-6 of intensities from 0 to 1, at the border as well."""
    spacing = (0.7, 0.9, 3.0)[: len(size)]
    image = torch.rand(size, generator=torch.Generator().manual_seed(1))
    settings = Augment(probability=0.7, rotate_degrees=180)
    for epoch in range(20):
        change = draw(settings, len(size), seed=0, case_id="a", epoch=epoch)
        expected = by_torch(image, change, spacing)
        torch.testing.assert_close(moved(image, change, spacing), expected, rtol=0, atol=5e-6)


# artefacts of MRI


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_is_a_function_of_seed_case_and_epoch(name: str) -> None:
    image, settings = body(), only(name)

    def one(seed: int, case: str, epoch: int) -> bytes:
        change = draw(settings, 3, seed=seed, case_id=case, epoch=epoch)
        return augmented(image, change, (1.0, 1.0, 3.0)).numpy().tobytes()

    assert one(0, "a", 3) == one(0, "a", 3)
    assert len({one(0, "a", 3), one(1, "a", 3), one(0, "b", 3), one(0, "a", 4)}) == 4


@pytest.mark.parametrize("size", [(24, 20, 12), (17, 9, 5), (24, 20)])
@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_changes_an_image_and_keeps_its_range(name: str, size: tuple[int, ...]) -> None:
    image, spacing = body(size), (1.0, 1.0, 3.0)[: len(size)]
    before = image.clone()
    change = draw(only(name), len(size), seed=0, case_id="a", epoch=0)
    found = augmented(image, change, spacing)
    assert found.shape == image.shape
    assert found.dtype == torch.float32
    assert not torch.equal(found, image)
    assert float(found.min()) >= 0.0
    assert float(found.max()) <= 1.0
    assert torch.equal(image, before)


def test_artefacts_come_as_often_as_asked_and_apart_from_each_other() -> None:
    settings = Augment.model_validate(
        {"probability": 0, **{name: {"probability": 0.3} for name in ARTEFACTS}}
    )
    drawn = [draw(settings, 3, seed=0, case_id=str(n), epoch=0).artefacts for n in range(1000)]
    for name in ARTEFACTS:
        share = np.mean([name in artefacts for artefacts in drawn])
        assert abs(share - 0.3) < 4 * math.sqrt(0.21 / 1000), name
    alone = draw(only("noise"), 3, seed=0, case_id="a", epoch=0).artefacts["noise"]
    both = draw(
        Augment.model_validate({"noise": {"probability": 1}, "blur": {"probability": 1}}),
        *(3,),
        seed=0,
        case_id="a",
        epoch=0,
    )
    assert both.artefacts["noise"] == alone


def test_no_global_generator_is_touched() -> None:
    settings = Augment.model_validate(
        {"probability": 1, **{name: {"probability": 1} for name in ARTEFACTS}}
    )
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state()), random.getstate()
    augmented(body(), draw(settings, 3, seed=0, case_id="a", epoch=0), (1.0, 1.0, 1.0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert pickle.dumps(np.random.get_state()) == before[1]
    assert random.getstate() == before[2]


def test_a_bias_field_is_the_exponential_of_a_cubic() -> None:
    image = torch.full((1, 9, 7, 5), 0.2)
    terms = [0.0] * 20
    terms[10] = 0.4  # x^1 y^0 z^0: after the ten terms without x
    change = Change(False, 0.0, (0.0,) * 3, 1.0, {"bias_field": {"coefficients": terms}})
    found = augmented(image, change, (1.0, 1.0, 1.0))[0]
    expected = 0.2 * torch.exp(0.4 * torch.linspace(-1, 1, 9))
    torch.testing.assert_close(found, expected[:, None, None].expand(9, 7, 5))


def test_blur_is_a_gaussian_in_millimetres() -> None:
    image = body()
    change = Change(False, 0.0, (0.0,) * 3, 1.0, {"blur": {"std_mm": [1.0, 0.5, 3.0]}})
    found = augmented(image, change, (1.0, 0.5, 3.0))[0].numpy()
    np.testing.assert_allclose(found, gaussian_filter(image[0].numpy(), 1.0), atol=1e-6)


def test_noise_has_its_standard_deviation() -> None:
    change = Change(False, 0.0, (0.0,) * 3, 1.0, {"noise": {"std": 0.05, "key": 7}})
    noise = augmented(torch.full((1, 40, 40, 40), 0.5), change, (1.0,) * 3) - 0.5
    assert float(noise.mean()) == pytest.approx(0.0, abs=4 * 0.05 / 253)
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)


def test_a_spike_is_a_wave() -> None:
    image = torch.full((1, 16, 16, 16), 0.5)
    # Two lines of k-space from its centre along R: two periods over the edge.
    spike = {"positions": [[10 / 16, 0.5, 0.5]], "intensity": 0.2}
    change = Change(False, 0.0, (0.0,) * 3, 1.0, {"spike": spike})
    found = augmented(image, change, (1.0,) * 3)[0]
    wave = 0.5 + 0.1 * torch.cos(2 * math.pi * 2 * torch.arange(16) / 16)
    torch.testing.assert_close(found, wave[:, None, None].expand(16, 16, 16), atol=1e-6, rtol=0)


def test_ghosts_are_shifted_copies() -> None:
    """Every fourth line of k-space halved: a quarter of the edge apart along the axis."""
    image = torch.full((1, 32, 8, 8), 0.5)
    image[0, 4, 4, 4] += 0.4
    ghosts = {"ghosts": 4, "axis": 0, "intensity": 0.5}
    found = augmented(image, Change(False, 0.0, (0.0,) * 3, 1.0, {"ghosting": ghosts}), (1.0,) * 3)
    # No line is restored (two percent of 32 is less than two), so the mean is halved, too.
    expected = torch.full_like(image, 0.25)
    expected[0, 4, 4, 4] += 0.4 * (1 - 0.5 / 4)
    expected[0, 12::8, 4, 4] -= 0.4 * 0.5 / 4
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_motion_mixes_poses_along_a_alone() -> None:
    """The middle line of k-space along A is of the first pose: sums over A keep their values."""
    image = 0.3 + 0.4 * body((24, 20))
    poses = {"degrees": [[0.0] * 3], "translate_mm": [[0.0, 3.0, 0.0]], "times": [0.75]}
    change = Change(False, 0.0, (0.0,) * 2, 1.0, {"motion": poses})
    found = augmented(image, change, (1.0, 1.0))
    torch.testing.assert_close(found.sum(dim=2), image.sum(dim=2), rtol=1e-5, atol=0)
    assert float((found.sum(dim=1) - image.sum(dim=1)).abs().max()) > 0.05


def test_a_slice_moves_in_its_plane() -> None:
    drawn = draw(only("motion"), 2, seed=0, case_id="a", epoch=0).artefacts["motion"]
    assert all(degrees[:2] == [0.0, 0.0] for degrees in drawn["degrees"])
    assert all(moved_mm[2] == 0.0 for moved_mm in drawn["translate_mm"])
    assert any(degrees[2] for degrees in drawn["degrees"])


def test_a_change_is_json() -> None:
    settings = Augment.model_validate({name: {"probability": 1} for name in ARTEFACTS})
    told = draw(settings, 3, seed=0, case_id="a", epoch=0).as_json()
    assert json.loads(json.dumps(told)) == told


def test_what_cannot_work_is_named() -> None:
    settings = Augment.model_validate(
        {"translate_share": [0.1], "zoom": [1.2, 0.8], "blur": {"std_mm": [2, 1]}}
    )
    assert list(settings.problems(3, "classify.size")) == [
        ("translate_share", "has 1 numbers, classify.size has 3 axes"),
        ("zoom", "received 1.2, 0.8; expected: 0 < low <= high"),
        ("blur.std_mm", "received 2, 1; expected: low <= high"),
    ]


def test_artefacts_that_are_off_decide_nothing() -> None:
    """So a training of an earlier version goes on."""
    assert Augment().decides().keys() == {
        *("probability", "flip", "rotate_degrees", "translate_share", "zoom")
    }
    assert "blur" in only("blur").decides()
