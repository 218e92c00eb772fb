"""Samplers on Gaussian data, whose denoiser and whose exact solution are known in closed form.

For data N(mu, S) the best guess of x_0 is affine in x_t, so every sampler is an affine map of its
start and of its fresh noise. Sending unit vectors through it therefore gives the mean and
covariance it samples, exactly and without Monte Carlo.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler
from pydantic import ValidationError
from tiny_run import REPOSITORY
from torch import Tensor

from voxella.diffusion.moves import even_timesteps, plan_moves, quadratic_timesteps
from voxella.diffusion.names import Prediction, ScheduleName, family_of
from voxella.diffusion.prediction import target
from voxella.diffusion.samplers import (
    SAMPLERS,
    Sampler,
    eta_takers,
    make_sampler,
    misfits,
    quickest,
)
from voxella.diffusion.sampling import sample
from voxella.diffusion.schedule import Schedule, make_schedule
from voxella.errors import UserError
from voxella.recipe.load import load_recipe
from voxella.recipe.sampling import Sample
from voxella.recipe.schema import recipe_schema

Denoiser = Callable[[Tensor, int], Tensor]

CCELLA = str(REPOSITORY / "recipes" / "ccella.yaml")

MU = torch.tensor([0.7, -0.4, 0.2], dtype=torch.float64)
DEVIATIONS = torch.tensor([0.3, 0.6, 1.3], dtype=torch.float64)
FAMILIES: dict[ScheduleName, tuple[str, ...]] = {
    "scaled_linear": ("ddim", "dpmpp_2m"),
    "linear": ("ddim", "dpmpp_2m"),
    "cosine": ("ddim", "dpmpp_2m"),
    "rectified_flow": ("euler", "dpmpp_2m"),
}


def rotation() -> Tensor:
    square = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    q, _ = torch.linalg.qr(square)
    assert isinstance(q, Tensor)
    return q


def covariance() -> Tensor:
    return rotation() @ torch.diag(DEVIATIONS**2) @ rotation().T


def paper(name: ScheduleName = "scaled_linear", steps: int = 1000) -> Schedule:
    return make_schedule(name, steps, 0.0015 * 1000 / steps, 0.0195 * 1000 / steps)


def best_guess(schedule: Schedule) -> Denoiser:
    """E[x_0 | x_t] = mu + alpha S (alpha^2 S + sigma^2 I)^-1 (x_t - alpha mu)."""
    values = DEVIATIONS**2

    def denoise(x: Tensor, t: int) -> Tensor:
        alpha, sigma = schedule.alphas[t], schedule.sigmas[t]
        gain = rotation() @ torch.diag(alpha * values / (alpha**2 * values + sigma**2))
        return MU + (x - alpha * MU) @ (gain @ rotation().T).T

    return denoise


def as_prediction(denoise: Denoiser, prediction: Prediction, schedule: Schedule) -> Denoiser:
    """Restate a guess of x_0 as what a network of another prediction type would output."""

    def restated(x: Tensor, t: int) -> Tensor:
        x0 = denoise(x, t)
        noise = (x - schedule.alphas[t] * x0) / schedule.sigmas[t]
        return target(prediction, x0, noise, t, schedule)

    return restated


def unit_noises(steps: int) -> Tensor:
    """``(1 + steps, 1 + 3 + 3 (steps - 1), 3)``: nothing, each unit start, each unit noise."""
    count = 3 * steps
    units = torch.eye(count, dtype=torch.float64).reshape(count, steps, 3)
    nothing = torch.zeros(1, steps, 3, dtype=torch.float64)
    return torch.cat([nothing, units]).transpose(0, 1)


def moments(sampler: Sampler) -> tuple[Tensor, Tensor]:
    """Mean and covariance that a sampler draws from, exactly."""
    units = unit_noises(sampler.steps if sampler.stochastic else 1)
    ends = sample(
        sampler,
        best_guess(sampler.schedule),
        units[0],
        prediction="x0",
        noise=lambda step: units[step + 1],
    )
    mean, responses = ends[0], ends[1:] - ends[0]
    return mean, responses.T @ responses


def exact_moments(schedule: Schedule) -> tuple[Tensor, Tensor]:
    """What the probability-flow ODE makes of N(0, I) at the last timestep.

    Along an eigenvector of S with deviation d the ODE carries the quantiles of N(alpha m, alpha^2
    d^2 + sigma^2) to those of N(m, d^2) (Song et al. 2021, "Score-based generative modeling").
    """
    alpha, sigma = schedule.alphas[-1], schedule.sigmas[-1]
    stretch = DEVIATIONS / (alpha**2 * DEVIATIONS**2 + sigma**2).sqrt()
    mean = MU - rotation() @ torch.diag(stretch) @ rotation().T @ (alpha * MU)
    return mean, rotation() @ torch.diag(stretch**2) @ rotation().T


def errors(sampler: Sampler) -> tuple[float, float]:
    """Distance of the mean, and relative distance of the covariance, from the exact solution."""
    (mean, spread), (true_mean, true_spread) = moments(sampler), exact_moments(sampler.schedule)
    relative = torch.linalg.norm(spread - true_spread) / torch.linalg.norm(true_spread)
    return float(torch.linalg.norm(mean - true_mean)), float(relative)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_exact_solution_is_the_data(name: ScheduleName) -> None:
    """The start N(0, I) is off the path by alpha_T; this bounds what no sampler can fix."""
    mean, spread = exact_moments(paper(name))
    torch.testing.assert_close(mean, MU, rtol=0, atol=0.012)
    torch.testing.assert_close(spread, covariance(), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "first_order", "second_order"),
    [
        ("scaled_linear", 0.006, 0.002),
        ("linear", 0.006, 0.001),
        ("cosine", 0.003, 0.02),
        ("rectified_flow", 0.003, 0.012),
    ],
)
def test_ode_samplers_return_the_data(
    name: ScheduleName, first_order: float, second_order: float
) -> None:
    """Stated covariance errors: first order at full length, DPM-Solver++ with 50 steps."""
    first, second = FAMILIES[name]
    for sampler, steps, bound in ((first, 1000, first_order), (second, 50, second_order)):
        mean, spread = errors(make_sampler(sampler, paper(name), steps))
        assert mean < 1e-4
        assert spread < bound


@pytest.mark.parametrize(("name", "bound"), [("scaled_linear", 0.012), ("cosine", 0.006)])
def test_ddpm_returns_the_data(name: ScheduleName, bound: float) -> None:
    """A chain with fresh noise forgets its start, so it is held to the data themselves."""
    mean, spread = moments(make_sampler("ddpm", paper(name), 1000))
    torch.testing.assert_close(mean, MU, rtol=0, atol=1e-3)
    assert torch.linalg.norm(spread - covariance()) / torch.linalg.norm(covariance()) < bound


@pytest.mark.parametrize("name", FAMILIES)
def test_dpm_solver_is_nearer_than_first_order_with_20_steps(name: ScheduleName) -> None:
    first, second = (moments(make_sampler(s, paper(name), 20))[1] for s in FAMILIES[name])
    truth = exact_moments(paper(name))[1]
    for axis in rotation().T:  # in every direction: fine, middle and coarse
        wrong = [float(axis @ (spread - truth) @ axis) for spread in (first, second)]
        assert abs(wrong[1]) < 0.5 * abs(wrong[0])


@pytest.mark.parametrize(
    ("name", "sampler", "order"), [("linear", "ddim", 1), ("linear", "dpmpp_2m", 2)]
)
def test_order_of_convergence(name: ScheduleName, sampler: str, order: int) -> None:
    """Doubling the steps divides the error by 2^order; 20000 timesteps make rounding negligible.

    A flow has no such order for DPM-Solver++: its path begins at a log SNR of minus infinity.
    """
    schedule = paper(name, steps=20000)
    coarse, fine = (errors(make_sampler(sampler, schedule, n))[1] for n in (40, 80))
    assert 0.9 * 2**order < coarse / fine < 1.5 * 2**order


def test_flow_euler_is_first_order() -> None:
    schedule = paper("rectified_flow", steps=20000)
    coarse, fine = (errors(make_sampler("euler", schedule, n))[1] for n in (40, 80))
    assert coarse / fine == pytest.approx(2, rel=0.05)


def test_a_clean_sample_is_a_fixed_point() -> None:
    """Data that are one point come back exactly, whatever the sampler."""
    for name, samplers in (*FAMILIES.items(), ("scaled_linear", ("ddpm",))):
        for sampler in samplers:
            steps = 1000 if sampler == "ddpm" else 7
            end = sample(
                make_sampler(sampler, paper(name), steps),
                lambda x, t: MU.expand_as(x),
                torch.full((2, 3), 5.0, dtype=torch.float64),
                prediction="x0",
                noise=lambda step: torch.ones(2, 3, dtype=torch.float64),
            )
            torch.testing.assert_close(end, MU.expand(2, 3))


# --- against other implementations ---------------------------------------------------------------


def network(x: Tensor, t: int) -> Tensor:
    """A bounded nonlinear stand-in for a network that predicts x_0."""
    return torch.tanh(1.3 * x + t / 700 - 0.5)


@pytest.mark.parametrize(
    ("prediction", "theirs"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("x0", "sample")]
)
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_full_length_equals_monai(sampler: str, prediction: Prediction, theirs: str) -> None:
    kind = DDPMScheduler if sampler == "ddpm" else DDIMScheduler
    scheduler = kind(
        1000,
        schedule="scaled_linear_beta",
        beta_start=0.0015,
        beta_end=0.0195,
        prediction_type=theirs,
        clip_sample=False,
    )
    # MONAI's tables are float32 products; ours are exact. Compare the steps, not the rounding.
    schedule = paper()
    scheduler.alphas_cumprod = schedule.alphas**2
    scheduler.alphas = scheduler.alphas_cumprod / torch.cat(
        [torch.ones(1), scheduler.alphas_cumprod[:-1]]
    )
    scheduler.betas = 1 - scheduler.alphas
    scheduler.set_timesteps(1000)
    denoise = as_prediction(network, prediction, schedule)
    start = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    ours_noise = torch.Generator().manual_seed(7)
    ours = sample(
        make_sampler(sampler, schedule, 1000),
        denoise,
        start,
        prediction=prediction,
        noise=lambda step: torch.randn(2, 3, dtype=torch.float64, generator=ours_noise),
    )
    x, generator = start, torch.Generator().manual_seed(7)
    for t in scheduler.timesteps.tolist():
        x, _ = scheduler.step(denoise(x, t), t, x, generator=generator)
    torch.testing.assert_close(ours, x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "eta"),
    [(1, 0), (7, 0), (30, 0), (50, 0), (500, 0), (1, 1), (50, 1), (150, 1), (7, 0.3)],
)
def test_leading_ddim_equals_diffusers(steps: int, eta: float) -> None:
    """As latent diffusion and PathLDM sample, eta 0; 50 steps are 981, 961, ..., 1."""
    from diffusers import DDIMScheduler as Theirs

    scheduler = Theirs(
        beta_schedule="scaled_linear",
        beta_start=0.0015,
        beta_end=0.0195,
        steps_offset=1,
        timestep_spacing="leading",
        set_alpha_to_one=False,
        clip_sample=False,
    )
    schedule = paper()
    # Its tables are float32 products; ours are exact. Compare the steps, not the rounding.
    scheduler.alphas_cumprod = schedule.alphas**2
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    sampler = make_sampler("ddim_leading", schedule, steps, eta=eta)
    assert list(sampler.timesteps) == scheduler.timesteps.tolist()
    fresh = torch.randn(
        steps, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7)
    )
    denoise = as_prediction(network, "epsilon", schedule)
    x = start = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for index, t in enumerate(scheduler.timesteps.tolist()):
        # The last step ends at alpha-bar_0, not at clean data: it is noisy as well.
        x = scheduler.step(denoise(x, t), t, x, eta=eta, variance_noise=fresh[index]).prev_sample
    ours = sample(sampler, denoise, start, prediction="epsilon", noise=lambda step: fresh[step])
    torch.testing.assert_close(ours, x)


def test_ddim_with_all_of_the_noise_is_ddpm() -> None:
    """Eta 1 on every timestep is the reverse chain (Song et al. 2021, section 4.1)."""
    theirs, ours = (
        moments(make_sampler(name, paper(), 1000, eta=eta))
        for name, eta in (("ddpm", 0), ("ddim", 1))
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_what_has_no_eta_says_so() -> None:
    assert eta_takers() == ["ddim", "ddim_leading"]
    with pytest.raises(ValueError, match="sampler ddpm has no eta"):
        make_sampler("ddpm", paper(), 1000, eta=1.0)
    with pytest.raises(
        ValidationError, match="sampler ddpm has none; expected: 0, or sampler ddim"
    ):
        Sample(eta=1.0)
    assert Sample(sampler="ddim", eta=1.0).eta == 1.0
    # Hashes of volumes from before are those without the key.
    assert "eta" not in Sample(sampler="ddim").model_dump()


def test_leading_ddim_is_the_published_plan() -> None:
    sampler = make_sampler("ddim_leading", paper(), 50)
    assert sampler.timesteps == tuple(range(981, 0, -20))
    last = sampler.moves[-1]
    assert last.t == 1
    assert last.alpha_next == pytest.approx(math.sqrt(1 - 0.0015), rel=1e-12)
    assert last.sigma_next == pytest.approx(math.sqrt(0.0015), rel=1e-9)
    assert list(misfits("ddim_leading", "cosine", 1000, 500)) == []
    ((key, words),) = misfits("ddim_leading", "cosine", 1000, 501)
    assert key == "steps"
    assert "expected: 1 to 500" in words


def test_flow_euler_equals_monai() -> None:
    """MAISI's velocity is x_0 - noise and its timestep one higher than ours."""
    schedule = paper("rectified_flow")
    sampler = make_sampler("euler", schedule, 30)
    scheduler = RFlowScheduler(1000)
    scheduler.set_timesteps(30)
    theirs = [*scheduler.timesteps.tolist(), 0]
    assert [t + 1 for t in sampler.timesteps] == theirs[:-1]

    denoise = as_prediction(network, "flow", schedule)
    x = start = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for t, following in pairwise(theirs):
        x, _ = scheduler.step(-denoise(x, t - 1), t, x, following)
    torch.testing.assert_close(sample(sampler, denoise, start, prediction="flow"), x)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, [-0.7710277, 0.5830973, 0.8951265, 0.9982741]),
        (2, [-0.9180771, 0.2421314, 0.5930738, 0.7147791]),
        (6, [-0.9498315, -0.9412035, 0.0209624, 0.5937455]),
    ],
)
def test_dpm_solver_equals_diffusers(steps: int, expected: list[float]) -> None:
    """Printed by diffusers 0.42.1's DPMSolverMultistepScheduler: solver_order 2, algorithm
    dpmsolver++, final_sigmas_type zero, prediction_type sample; our timesteps and network.
    """
    start = torch.tensor([[-1.5, -0.2, 0.4, 2.0]])
    end = sample(make_sampler("dpmpp_2m", paper(), steps), network, start, prediction="x0")
    assert end[0].tolist() == pytest.approx(expected, abs=5e-6)


# --- the contract of the loop --------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m"])
@pytest.mark.parametrize("prediction", ["epsilon", "v", "flow"])
def test_all_predictions_of_one_denoiser_give_one_sample(
    sampler: str, prediction: Prediction
) -> None:
    schedule = paper(steps=100)
    plan = make_sampler(sampler, schedule, 100)
    start = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))

    def run(kind: Prediction) -> Tensor:
        denoise = as_prediction(best_guess(schedule), kind, schedule)
        return sample(plan, denoise, start, prediction=kind, noise=lambda step: start.roll(step))

    torch.testing.assert_close(run(prediction), run("x0"), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("spatial", [(4,), (4, 3), (4, 3, 2)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_axes_and_company_do_not_matter(sampler: str, spatial: tuple[int, ...]) -> None:
    schedule = paper("rectified_flow" if sampler == "euler" else "scaled_linear", steps=50)
    plan = make_sampler(sampler, schedule, 50 // SAMPLERS[sampler].stride)
    start = torch.randn(3, 2, *spatial, generator=torch.Generator().manual_seed(6))

    def run(x: Tensor) -> Tensor:
        return sample(plan, network, x, prediction="x0", noise=lambda step: x.flip(1))

    together = run(start)
    assert torch.equal(run(start.reshape(3, 2, -1)).reshape(start.shape), together)
    assert torch.equal(run(start[1:2]), together[1:2])


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m"])
def test_state_stays_float32_under_a_half_precision_network(sampler: str) -> None:
    schedule = paper(steps=200)
    seen: set[torch.dtype] = set()

    def half(x: Tensor, t: int) -> Tensor:
        seen.add(x.dtype)
        return network(x, t).bfloat16()

    start = torch.randn(2, 3, generator=torch.Generator().manual_seed(6))
    plan = make_sampler(sampler, schedule, 200)
    end, full = (
        sample(plan, f, start.bfloat16(), prediction="x0", noise=lambda step: start)
        for f in (half, network)
    )
    assert seen == {torch.float32}
    assert end.dtype == torch.float32
    # bf16 resolves 0.4 %; had the state been kept in it, 200 roundings would add up.
    torch.testing.assert_close(end, full, rtol=0.01, atol=0.01)


def test_noise_is_asked_of_ddpm_only_and_not_for_its_last_step() -> None:
    asked: list[int] = []
    done: list[tuple[int, int]] = []
    start = torch.zeros(1, 2)

    def noise(step: int) -> Tensor:
        asked.append(step)
        return start

    def count(step: int, steps: int) -> None:
        done.append((step, steps))

    schedule = paper(steps=50)
    for sampler in ("ddim", "dpmpp_2m"):
        plan = make_sampler(sampler, schedule, 5)
        sample(plan, network, start, prediction="x0", noise=noise)
    assert asked == []
    plan = make_sampler("ddpm", schedule, 50)
    sample(plan, network, start, prediction="x0", noise=noise, on_step=count)
    assert asked == list(range(49))
    assert done == [(step, 50) for step in range(1, 51)]


def test_ddpm_without_a_source_of_noise_is_a_programming_error() -> None:
    plan = make_sampler("ddpm", paper(steps=50), 50)
    with pytest.raises(ValueError, match=r"ddpm needs noise\(step\)"):
        sample(plan, network, torch.zeros(1, 2), prediction="x0")


def test_the_start_is_not_altered_and_no_graph_is_kept() -> None:
    start = torch.ones(1, 2, requires_grad=True)
    end = sample(make_sampler("ddim", paper(), 3), network, start, prediction="x0")
    assert torch.equal(start.detach(), torch.ones(1, 2))
    assert not end.requires_grad


# --- plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spaced", [quadratic_timesteps, even_timesteps])
@pytest.mark.parametrize("length", [1, 2, 7, 100, 1000])
def test_timesteps_descend_without_repeating(
    spaced: Callable[[int, int], list[int]], length: int
) -> None:
    for steps in range(1, length + 1):
        timesteps = spaced(length, steps)
        assert len(timesteps) == steps
        assert timesteps[0] == length - 1
        assert timesteps[-1] >= 0
        assert all(later < earlier for earlier, later in pairwise(timesteps))
    assert spaced(length, length) == list(reversed(range(length)))


def test_quadratic_spacing_ends_at_the_least_noise() -> None:
    assert quadratic_timesteps(1000, 6) == [999, 639, 360, 160, 40, 0]
    assert even_timesteps(1000, 5) == [999, 799, 599, 399, 199]


@pytest.mark.parametrize("other", ["trailing", "linspace"])
@pytest.mark.parametrize("deviation", [0.1, 0.3, 0.5, 1.0])
def test_quadratic_spacing_beats_even_spacing(other: str, deviation: float) -> None:
    """The measurement on which the choice rests: 20 steps of DPM-Solver++, paper's schedule."""
    schedule = paper()
    even = even_timesteps(1000, 20)
    if other == "linspace":
        even = [round(999 * k / 19) for k in range(19, -1, -1)]

    def width(timesteps: list[int]) -> float:
        plan = replace(
            make_sampler("dpmpp_2m", schedule, 20), moves=plan_moves(schedule, timesteps)
        )

        def denoise(x: Tensor, t: int) -> Tensor:
            alpha, sigma = schedule.alphas[t], schedule.sigmas[t]
            return alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * x

        return float(sample(plan, denoise, torch.ones(1, 1).double(), prediction="x0"))

    alpha, sigma = float(schedule.alphas[-1]), float(schedule.sigmas[-1])
    exact = deviation / math.sqrt(alpha**2 * deviation**2 + sigma**2)
    assert abs(width(quadratic_timesteps(1000, 20)) - exact) < 0.5 * abs(width(even) - exact)


def test_ddpm_below_full_length_would_lose_variance_and_is_refused() -> None:
    schedule = paper()
    moves = plan_moves(schedule, even_timesteps(1000, 50))
    strided = replace(make_sampler("ddpm", schedule, 1000), moves=moves)
    spread = moments(strided)[1]
    assert float(spread.trace() / covariance().trace()) < 0.9  # the reason that the error gives
    with pytest.raises(UserError) as caught:
        make_sampler("ddpm", schedule, 50)
    message = str(caught.value)
    assert "received 50: ddpm takes all 1000 steps of the schedule" in message
    assert "too little variance" in message
    assert "expected: 1000, or sampler ddim or ddim_leading or dpmpp_2m" in message
    assert "--set sample.sampler=dpmpp_2m --set sample.steps=20" in message


@pytest.mark.parametrize(
    ("sampler", "schedule", "steps", "expected"),
    [
        ("euler", "scaled_linear", 20, "euler does not go with schedule scaled_linear"),
        ("ddpm", "rectified_flow", 1000, "ddpm does not go with schedule rectified_flow"),
        ("ddim", "rectified_flow", 20, "schedule rectified_flow; expected: dpmpp_2m, euler"),
        (
            "ddim",
            "scaled_linear",
            1001,
            "sample.steps: received 1001; the schedule has 1000 timesteps",
        ),
        ("ddim", "cosine", 0, "sample.steps: received 0; the schedule has 1000 timesteps"),
        ("plms", "cosine", 20, "there is no sampler 'plms'"),
        ("plms", "cosine", 20, "expected: ddpm, ddim, ddim_leading, dpmpp_2m, euler"),
    ],
)
def test_plans_that_cannot_be_are_refused(
    sampler: str, schedule: ScheduleName, steps: int, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_sampler(sampler, paper(schedule), steps)
    assert expected in str(caught.value)


def test_all_problems_of_a_plan_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        make_sampler("euler", paper(steps=100), 101)
    assert "does not go with" in str(caught.value)
    assert "sample.steps: received 101" in str(caught.value)


# one place for all that is known of a sampler


FLOW = ["diffusion={schedule: rectified_flow, prediction: flow}", "sample.steps=7"]


def test_a_new_sampler_is_one_new_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipe, schema, messages, panels and sampling know it; it is euler by another name."""
    euler = SAMPLERS["euler"]
    fresh = replace(euler, order=3, families=("flow",), usual_steps=7)
    monkeypatch.setitem(SAMPLERS, "heun", fresh)
    ours = load_recipe(CCELLA, ["smoke"], [*FLOW, "sample.sampler=heun"])
    assert "heun" in recipe_schema()["$defs"]["Sample"]["properties"]["sampler"]["enum"]
    with pytest.raises(UserError, match="expected: dpmpp_2m, euler, heun"):
        load_recipe(CCELLA, ["smoke"], [*FLOW, "sample.sampler=ddim"])
    assert quickest("rectified_flow") == ("heun", 7)
    assert quickest("cosine") == ("dpmpp_2m", 20)
    schedule = paper("rectified_flow")
    made = make_sampler(ours.sample.sampler, schedule, ours.sample.steps)
    assert (made.moves, made.update) == (make_sampler("euler", schedule, 7).moves, euler.update)


def test_what_a_recipe_may_ask_for_is_what_can_be_planned() -> None:
    for name, facts in SAMPLERS.items():
        for schedule in get_args(ScheduleName):
            steps = facts.usual_steps or 1000
            problems = list(misfits(name, schedule, 1000, steps))
            if problems:
                with pytest.raises(UserError):
                    make_sampler(name, paper(schedule), steps)
            else:
                assert make_sampler(name, paper(schedule), steps).steps == steps
            assert bool(problems) is (family_of(schedule) not in facts.families)


def test_the_page_on_sampling_names_every_sampler_with_its_facts() -> None:
    text = (REPOSITORY / "docs" / "how-to" / "sampling.md").read_text()
    for name, facts in SAMPLERS.items():
        steps = (
            "all of the schedule" if facts.usual_steps is None else f"such as {facts.usual_steps}"
        )
        noisy = ", with fresh noise" if facts.stochastic else ""
        families = ", ".join(facts.families)
        row = f"| {name} | {facts.solves}{noisy} | {families} | {facts.order} |"
        (found,) = [line for line in text.splitlines() if line.startswith(row)]
        assert steps in found


def test_recipes_are_checked_without_torch() -> None:
    code = "import sys, voxella.recipe.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("steps", [1, 7, 30, 100])
@pytest.mark.parametrize("size", [(32, 32, 32), (64, 64, 32), (128, 128, 64), (16, 16, 8)])
def test_the_shift_of_a_flows_timesteps_is_monais(steps: int, size: tuple[int, ...]) -> None:
    theirs = RFlowScheduler(
        num_train_timesteps=1000,
        use_discrete_timesteps=False,
        use_timestep_transform=True,
        sample_method="uniform",
        scale=1.4,  # as released; of the logit-normal method, so without effect here
        base_img_size_numel=32**3,
    )
    theirs.set_timesteps(steps, input_img_size_numel=math.prod(size))
    recipe = load_recipe(CCELLA.replace("ccella", "maisi/flow"))
    shift = recipe.sample.shift(size)
    schedule = make_schedule("rectified_flow", 1000, 0.0015, 0.0195)
    ours = [t + 1 for t in make_sampler("euler", schedule, steps, shift=shift).timesteps]
    # Theirs are fractions rounded to float16, by at most 0.25; ours whole timesteps, by 0.5.
    assert ours[0] == theirs.timesteps[0] == 1000
    for mine, expected in zip(ours, theirs.timesteps.tolist(), strict=True):
        assert abs(mine - expected) <= 0.5 + 0.25 + 1e-3 or (expected < 1 and mine == 1)


def test_a_shift_of_one_changes_nothing_and_all_steps_stay_all_steps() -> None:
    schedule = make_schedule("rectified_flow", 1000, 0.0015, 0.0195)
    plain = make_sampler("euler", schedule, 30).timesteps
    assert make_sampler("euler", schedule, 30, shift=1.0).timesteps == plain
    for shift in (0.2, 1.6, 50.0):
        found = make_sampler("euler", schedule, 1000, shift=shift).timesteps
        assert found == tuple(range(999, -1, -1))


def test_only_a_flows_timesteps_are_shifted() -> None:
    with pytest.raises(UserError, match="only a flow's timesteps are shifted"):
        load_recipe(CCELLA, [], ["sample.timestep_shift=32"])
