"""Losses against MONAI's and torch's own."""

from __future__ import annotations

import pytest
import torch
from monai.losses import FocalLoss
from torch import Tensor
from torch.nn import functional

from voxella.diffusion.losses import (
    focal_loss,
    masked_mean,
    min_snr_weight,
    p2_weight,
    reconstruction_loss,
)
from voxella.diffusion.names import Prediction, Reconstruction, ScheduleName
from voxella.diffusion.prediction import target, to_x0
from voxella.diffusion.schedule import make_schedule


def case(classes: int, cases: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(cases, classes, generator=generator)
    labels = torch.randint(classes, (cases,), generator=generator)
    return logits, functional.one_hot(labels, classes).float()


@pytest.mark.parametrize(
    ("kind", "theirs"), [("l1", functional.l1_loss), ("mse", functional.mse_loss)]
)
@pytest.mark.parametrize("spatial", [(), (6, 5), (4, 3, 2)])
def test_reconstruction_is_per_case(
    kind: Reconstruction, theirs: object, spatial: tuple[int, ...]
) -> None:
    assert callable(theirs)
    a, b = torch.randn(2, 3, 4, *spatial, generator=torch.Generator().manual_seed(0))
    ours = reconstruction_loss(kind, a, b)
    assert ours.shape == (3,)
    for i in range(3):
        torch.testing.assert_close(ours[i], theirs(a[i], b[i]))
    torch.testing.assert_close(ours.mean(), theirs(a, b))


def test_reconstruction_sums_in_float32() -> None:
    ones = torch.ones(1, 4096, dtype=torch.bfloat16)
    loss = reconstruction_loss("l1", ones, torch.zeros_like(ones))
    assert loss.dtype == torch.float32
    assert float(loss) == 1.0


@pytest.mark.parametrize(("k", "gamma"), [(1.0, 1.0), (1.0, 0.5), (0.2, 1.0), (3.0, 0.0)])
def test_p2_is_choi_s_closed_form(k: float, gamma: float) -> None:
    schedule = make_schedule("linear", steps=1000, beta_start=1e-4, beta_end=0.02)
    # The released code's way: from the running product of 1 - beta.
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = torch.cumprod(1 - betas, 0)
    expected = 1 / (k + product / (1 - product)) ** gamma
    torch.testing.assert_close(
        p2_weight(schedule.alphas, schedule.sigmas, k=k, gamma=gamma), expected, rtol=1e-9, atol=0
    )
    if (k, gamma) == (1.0, 1.0):
        # 1 + SNR is 1 / sigma^2 where alpha^2 + sigma^2 = 1.
        torch.testing.assert_close(expected, schedule.sigmas**2, rtol=1e-9, atol=0)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_is_hang_s_closed_form(gamma: float) -> None:
    """Their section 3.4: over 1 where x_0 is predicted, SNR where the noise, SNR + 1 where v."""
    schedule = make_schedule("linear", steps=1000, beta_start=1e-4, beta_end=0.02)
    product = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    snr = product / (1 - product)
    capped = snr.clamp(max=gamma)
    assert 0 < int((snr > gamma).sum()) < 1000, "both sides of the cap"
    divisors: list[tuple[Prediction, Tensor]] = [
        ("x0", torch.ones(())),
        ("epsilon", snr),
        ("v", snr + 1),
    ]
    for prediction, divisor in divisors:
        ours = min_snr_weight(prediction, schedule.alphas, schedule.sigmas, gamma=gamma)
        torch.testing.assert_close(ours, capped / divisor, rtol=1e-8, atol=0)


@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v", "flow"])
def test_min_snr_is_one_loss_of_x0_whatever_is_predicted(prediction: Prediction) -> None:
    """The paper's point: any prediction's squared error, weighed, is min(SNR, gamma) times x_0's.

    By our own conversions, so of the flow too, of which the paper does not speak.
    """
    name: ScheduleName = "rectified_flow" if prediction == "flow" else "scaled_linear"
    schedule = make_schedule(name, steps=1000, beta_start=0.0015, beta_end=0.0195)
    t = torch.tensor([0, 30, 200, 500, 900, 998])
    x0, noise, error = torch.randn(
        3, len(t), 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    x_t = schedule.add_noise(x0, noise, t)
    wanted = target(prediction, x0, noise, t, schedule)
    guess = wanted + 0.1 * error
    alpha, sigma = schedule.alphas[t], schedule.sigmas[t]
    weighed = min_snr_weight(prediction, alpha, sigma, gamma=5.0)[:, None, None]
    of_x0 = (to_x0(prediction, guess, x_t, t, schedule) - x0).square()
    snr = (alpha / sigma).square().clamp(max=5.0)[:, None, None]
    torch.testing.assert_close(weighed * (guess - wanted).square(), snr * of_x0, rtol=1e-6, atol=0)


def test_min_snr_is_finite_at_a_flow_s_noise() -> None:
    one, nothing = torch.ones(1), torch.zeros(1)
    assert min_snr_weight("flow", nothing, one, gamma=5.0).tolist() == [0.0]


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("alpha", [0.75, 0.25, None])
@pytest.mark.parametrize("gamma", [0.0, 2.0, 3.5])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_focal_loss_equals_monai(
    classes: int, alpha: float | None, gamma: float, scale: float
) -> None:
    logits, target = case(classes)
    ours = focal_loss(logits, scale * target, gamma, alpha)
    options = {"gamma": gamma, "alpha": alpha, "use_softmax": True}
    per_class = FocalLoss(**options, reduction="none")(logits, scale * target)
    torch.testing.assert_close(ours, per_class, rtol=1e-5, atol=1e-6)
    mean = FocalLoss(**options)(logits, scale * target)
    torch.testing.assert_close(ours.mean(), mean, rtol=1e-5, atol=1e-6)


def test_focal_loss_by_hand() -> None:
    """One positive case at p = 0.9: 0.75 (0.1)^2 (-ln 0.9), and nothing for the other class."""
    logits = torch.tensor([[0.1, 0.9]]).log()
    ours = focal_loss(logits, torch.tensor([[0.0, 1.0]]), 2.0, 0.75)
    assert ours[0].tolist() == pytest.approx([0.0, 0.75 * 0.01 * 0.1053605], rel=1e-5)
    negative = focal_loss(logits.flip(1), torch.tensor([[1.0, 0.0]]), 2.0, 0.75)
    assert float(ours.sum() / negative.sum()) == pytest.approx(3.0)


def test_focal_loss_is_linear_in_the_target() -> None:
    logits, target = case(2)
    torch.testing.assert_close(
        focal_loss(logits, 100 * target, 2.0, 0.75), 100 * focal_loss(logits, target, 2.0, 0.75)
    )


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, target = case(4)
    expected = functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(focal_loss(logits, target, 0.0, None).sum(1), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_of_certain_logits_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = focal_loss(logits, torch.eye(2), gamma, 0.75).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-6


def test_masked_mean_is_over_the_chosen_cases_only() -> None:
    values = torch.tensor([1.0, 5.0, float("nan"), 3.0], requires_grad=True)
    mean = masked_mean(values, torch.tensor([True, False, False, True]))
    (gradient,) = torch.autograd.grad(mean, values)
    assert float(mean.detach()) == 2.0
    assert gradient.tolist() == [0.5, 0.0, 0.0, 0.5]


def test_masked_mean_of_no_case_contributes_nothing() -> None:
    logits, target = case(2, cases=3)
    logits.requires_grad_()
    per_case = focal_loss(logits, target, 2.0, 0.75).sum(1)
    mean = masked_mean(per_case, torch.zeros(3, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(mean, logits)
    assert float(mean.detach()) == 0.0
    assert torch.equal(gradient, torch.zeros(3, 2))


def test_ranks_that_share_a_count_average_to_the_global_mean() -> None:
    values = torch.tensor([4.0, 1.0, 7.0, 2.0])
    for chosen in ([True, False, True, True], [False, True, False, False], [False] * 4):
        mask = torch.tensor(chosen)
        shared = mask.sum() / 2  # the mean over two ranks, each with two cases
        ranks = [masked_mean(values[r], mask[r], count=shared) for r in (slice(2), slice(2, 4))]
        torch.testing.assert_close((ranks[0] + ranks[1]) / 2, masked_mean(values, mask))
