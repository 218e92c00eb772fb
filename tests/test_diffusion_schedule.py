"""Schedules against closed forms and MONAI's."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.schedulers import NoiseSchedules, RFlowScheduler

from voxella.diffusion.names import ScheduleName
from voxella.diffusion.schedule import Schedule, make_schedule
from voxella.errors import UserError

NAMES: tuple[ScheduleName, ...] = ("scaled_linear", "linear", "cosine", "rectified_flow")


def paper() -> Schedule:
    return make_schedule("scaled_linear", 1000, 0.0015, 0.0195)


def test_paper_schedule_is_the_product_of_its_betas() -> None:
    schedule = paper()
    kept = 1.0
    for t in range(1000):
        root = 0.0015**0.5 + (0.0195**0.5 - 0.0015**0.5) * t / 999
        kept *= 1 - root**2
        assert float(schedule.alphas[t]) == pytest.approx(math.sqrt(kept), rel=1e-12)
    # How much signal is left at the start of sampling, to be quoted in the docs.
    assert float(schedule.alphas[-1]) == pytest.approx(0.0119, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "theirs"), [("scaled_linear", "scaled_linear_beta"), ("linear", "linear_beta")]
)
def test_beta_schedules_equal_monai(name: ScheduleName, theirs: str) -> None:
    betas = NoiseSchedules[theirs](1000, beta_start=0.0015, beta_end=0.0195)
    ours = make_schedule(name, 1000, 0.0015, 0.0195).alphas.square()
    torch.testing.assert_close(
        ours.float(), torch.cumprod(1 - betas, 0), rtol=1e-4, atol=0
    )  # MONAI multiplies a thousand float32 numbers


def test_cosine_schedule_equals_monai_and_its_formula() -> None:
    ours = make_schedule("cosine", 1000, 0.0015, 0.0195).alphas.square()
    theirs = NoiseSchedules["cosine"](1000)[2]
    torch.testing.assert_close(ours.float(), theirs, rtol=2e-3, atol=1e-6)

    def signal(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    assert float(ours[499]) == pytest.approx(signal(0.5) / signal(0), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1000, 64])
def test_every_schedule_loses_signal_and_gains_noise(name: ScheduleName, steps: int) -> None:
    schedule = make_schedule(name, steps, 0.0015 * 1000 / steps, 0.0195 * 1000 / steps)
    assert schedule.steps == steps
    assert (schedule.alphas.diff() < 0).all()
    assert (schedule.sigmas.diff() > 0).all()
    conserved = schedule.alphas + schedule.sigmas
    if name != "rectified_flow":
        conserved = schedule.alphas.square() + schedule.sigmas.square()
    torch.testing.assert_close(conserved, torch.ones(steps, dtype=torch.float64))


def test_rectified_flow_is_maisi_shifted_by_one_timestep() -> None:
    schedule = make_schedule("rectified_flow", 1000, 0.0015, 0.0195)
    assert schedule.alphas[-1] == 0
    assert schedule.sigmas[-1] == 1
    x0, noise = torch.randn(2, 3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 500, 999])
    theirs = RFlowScheduler(1000).add_noise(x0, noise, t + 1)
    torch.testing.assert_close(schedule.add_noise(x0, noise, t), theirs)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spatial", [(), (5,), (4, 3), (4, 3, 2)])
def test_add_noise_takes_any_number_of_axes(name: ScheduleName, spatial: tuple[int, ...]) -> None:
    schedule = make_schedule(name, 1000, 0.0015, 0.0195)
    x0, noise = torch.randn(2, 3, 2, *spatial, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 400, 999])
    noisy = schedule.add_noise(x0, noise, t)
    for i, step in enumerate(t.tolist()):
        expected = float(schedule.alphas[step]) * x0[i] + float(schedule.sigmas[step]) * noise[i]
        torch.testing.assert_close(noisy[i], expected)
        alone = schedule.add_noise(x0[i : i + 1], noise[i : i + 1], step)
        assert torch.equal(alone[0], noisy[i])


def test_add_noise_never_computes_in_half_precision() -> None:
    x0, noise = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    noisy = paper().add_noise(x0, noise, torch.tensor([0, 999]))
    assert noisy.dtype == torch.float32
    exact = paper().add_noise(x0.double(), noise.double(), torch.tensor([0, 999]))
    assert exact.dtype == torch.float64
    torch.testing.assert_close(noisy.double(), exact, rtol=1e-6, atol=1e-6)


def test_alpha_and_sigma_keep_the_shape_of_t() -> None:
    schedule = paper()
    t = torch.tensor([[0, 10], [500, 999]])
    assert schedule.alpha(t).shape == schedule.sigma(t).shape == t.shape
    assert schedule.alpha(7).shape == ()
    torch.testing.assert_close(schedule.alpha(t).double(), schedule.alphas[t], rtol=1e-6, atol=0)
    torch.testing.assert_close(schedule.sigma(t).double(), schedule.sigmas[t], rtol=1e-6, atol=0)
    assert schedule.alpha(t).dtype == schedule.sigma(t).dtype == torch.float32


def test_all_bad_numbers_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        make_schedule("sigmoid", 0, 0.5, 0.1)  # type: ignore[arg-type] # a wrong name on purpose
    message = str(caught.value)
    assert "no schedule 'sigmoid'" in message
    assert "diffusion.steps is 0" in message
    assert "beta_start is 0.5 and diffusion.beta_end 0.1" in message
    assert "scaled_linear, linear, cosine, rectified_flow" in message


def test_betas_that_do_not_end_in_noise_are_refused() -> None:
    with pytest.raises(UserError, match=r"50 steps and these betas still holds 0\.80") as caught:
        make_schedule("scaled_linear", 50, 0.0015, 0.0195)
    assert "schedule=cosine" in str(caught.value)
    make_schedule("scaled_linear", 1000, 0.00085, 0.012)  # Stable Diffusion's are admitted
    for steps in (1, 2, 8, 50):  # and the remedy holds
        make_schedule("cosine", steps, 0.0015, 0.0195)
