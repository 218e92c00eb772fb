"""Predictions determine one another; guidance means the same in each."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import Tensor

from voxella.diffusion.guidance import combine
from voxella.diffusion.names import Prediction, ScheduleName
from voxella.diffusion.prediction import target, to_epsilon, to_x0
from voxella.diffusion.schedule import Schedule, make_schedule

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
SCHEDULES: tuple[ScheduleName, ...] = ("scaled_linear", "cosine", "rectified_flow")


def problem(name: ScheduleName) -> tuple[Schedule, Tensor, Tensor, Tensor, Tensor]:
    schedule = make_schedule(name, 1000, 0.0015, 0.0195)
    x0, noise = torch.randn(
        2, 4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    t = torch.tensor([0, 300, 700, 990])
    return schedule, x0, noise, t, schedule.add_noise(x0, noise, t)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_target_leads_back_to_data_and_noise(name: ScheduleName, prediction: Prediction) -> None:
    schedule, x0, noise, t, x_t = problem(name)
    output = target(prediction, x0, noise, t, schedule)
    torch.testing.assert_close(
        to_x0(prediction, output, x_t, t, schedule), x0, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        to_epsilon(prediction, output, x_t, t, schedule), noise, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_any_output_gives_an_estimate_on_the_path(
    name: ScheduleName, prediction: Prediction
) -> None:
    """A network errs, yet x_t = alpha x0 + sigma noise must hold between its two readings."""
    schedule, _, wrong, t, x_t = problem(name)
    x0 = to_x0(prediction, wrong, x_t, t, schedule)
    noise = to_epsilon(prediction, wrong, x_t, t, schedule)
    torch.testing.assert_close(schedule.add_noise(x0, noise, t), x_t)


def test_targets_are_the_published_ones() -> None:
    schedule, x0, noise, t, _ = problem("scaled_linear")
    assert torch.equal(target("epsilon", x0, noise, t, schedule), noise)
    assert torch.equal(target("x0", x0, noise, t, schedule), x0)
    assert torch.equal(target("flow", x0, noise, t, schedule), noise - x0)
    theirs = DDPMScheduler(
        1000, schedule="scaled_linear_beta", beta_start=0.0015, beta_end=0.0195
    ).get_velocity(x0, noise, t)
    torch.testing.assert_close(
        target("v", x0, noise, t, schedule), theirs, rtol=1e-5, atol=1e-5
    )  # MONAI's table is float32


def test_flow_target_is_the_derivative_of_the_path() -> None:
    schedule, x0, noise, _, _ = problem("rectified_flow")
    later, earlier = (schedule.add_noise(x0, noise, t) for t in (600, 400))
    velocity = target("flow", x0, noise, 500, schedule)
    torch.testing.assert_close((later - earlier) / 0.2, velocity)


@pytest.mark.parametrize("prediction", ["v", "x0", "flow"])
def test_pure_noise_of_a_flow_is_not_singular(prediction: Prediction) -> None:
    schedule, x0, noise, _, _ = problem("rectified_flow")
    output = target(prediction, x0, noise, 999, schedule)
    torch.testing.assert_close(to_x0(prediction, output, noise, 999, schedule), x0)


def test_half_precision_outputs_are_promoted() -> None:
    schedule, x0, noise, t, x_t = problem("scaled_linear")
    reading = to_x0("epsilon", noise.bfloat16(), x_t.float(), t, schedule)
    assert reading.dtype == torch.float32
    assert target("v", x0.bfloat16(), noise.bfloat16(), t, schedule).dtype == torch.float32


def test_guidance_scales_one_and_zero_are_the_two_outputs() -> None:
    conditional, null = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2))
    assert combine(conditional, null, 1.0) is conditional
    assert torch.equal(combine(conditional, null, 0.0), null)


def test_guidance_equals_the_papers_weights() -> None:
    """Ho and Salimans write (1 + w) conditional - w null."""
    conditional, null = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2))
    expected = 2.5 * conditional - 1.5 * null
    torch.testing.assert_close(combine(conditional, null, 2.5), expected)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_guidance_commutes_with_the_prediction(prediction: Prediction) -> None:
    schedule, conditional, null, t, x_t = problem("scaled_linear")
    outside = combine(
        to_x0(prediction, conditional, x_t, t, schedule),
        to_x0(prediction, null, x_t, t, schedule),
        3.0,
    )
    inside = to_x0(prediction, combine(conditional, null, 3.0), x_t, t, schedule)
    torch.testing.assert_close(inside, outside)
