"""Losses of an autoencoder against closed forms, numpy, torch's distributions and MONAI."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from monai.losses import PatchAdversarialLoss
from torch.nn import functional

from voxella.autoencoder.adversary import Adversary
from voxella.autoencoder.losses import (
    autoencoder_losses,
    gradient_l1,
    kl_per_voxel,
    log_spectral_l1,
)
from voxella.recipe.training import Adversarial, AutoencoderTraining


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_kl_agrees_with_torch_distributions() -> None:
    mean, log_sigma = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    normal = torch.distributions.Normal
    reference = torch.distributions.kl_divergence(normal(mean, log_sigma.exp()), normal(0.0, 1.0))
    found = kl_per_voxel(mean, log_sigma)
    # Summed over channels, averaged over the 2 * 20 voxels.
    assert float(found) == pytest.approx(float(reference.sum() / 40), rel=1e-5)


def test_gradient_loss_sees_edges_and_no_offset() -> None:
    image = torch.zeros(1, 1, 4, 4)
    image[..., 2:] = 1.0
    assert float(gradient_l1(image + 0.3, image)) == pytest.approx(0, abs=1e-6)
    # Along the last axis one of three differences is 1, along the other none.
    assert float(gradient_l1(image, torch.zeros_like(image))) == pytest.approx((1 / 3) / 2)


def test_spectral_loss_is_numpys() -> None:
    a, b = noise(2, 2, 6, 5, 4), noise(2, 2, 6, 5, 4, seed=1)
    spectra = [np.fft.fftn(x.double().numpy(), axes=(2, 3, 4)) / np.sqrt(120) for x in (a, b)]
    logs = [np.log(np.abs(spectrum) + 1e-3) for spectrum in spectra]
    expected = np.abs(logs[0] - logs[1]).mean()
    assert float(log_spectral_l1(a, b)) == pytest.approx(expected, rel=1e-4)


def test_spectral_loss_of_a_scaled_image_is_the_logarithm() -> None:
    image = noise(1, 1, 8, 8, 8)
    assert float(log_spectral_l1(image, image)) == 0
    # Every frequency is halved, whatever its amplitude; the floor of 1e-3 takes a little off.
    halved = float(log_spectral_l1(image / 2, image))
    assert halved == pytest.approx(np.log(2), rel=0.01)
    assert halved < np.log(2)


def test_spectral_loss_knows_no_shift_and_sees_blur() -> None:
    image = noise(1, 1, 16, 16, 16)
    shifted = image.roll((3, 5), dims=(2, 4))
    assert float(log_spectral_l1(shifted, image)) == pytest.approx(0, abs=1e-4)
    blurred = functional.avg_pool3d(image, 3, stride=1, padding=1)
    # Noise of the blurred image's own strength: as far from the image in L1, texture kept.
    other = noise(1, 1, 16, 16, 16, seed=1)
    assert (blurred - image).abs().mean() < (other - image).abs().mean()
    assert float(log_spectral_l1(blurred, image)) > 1.3 * float(log_spectral_l1(other, image))


def test_gradients_are_those_of_finite_differences() -> None:
    image = noise(1, 1, 4, 4, 2).double().requires_grad_()
    target = noise(1, 1, 4, 4, 2, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: log_spectral_l1(x, target), (image,))
    assert torch.autograd.gradcheck(lambda x: gradient_l1(x, target), (image,))


def test_a_black_patch_has_a_finite_gradient() -> None:
    black = torch.zeros(1, 1, 4, 4, 4, requires_grad=True)
    log_spectral_l1(black, noise(1, 1, 4, 4, 4)).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert black.grad is not None
    assert bool(torch.isfinite(black.grad).all())


def test_the_total_weighs_its_terms() -> None:
    weights = {"kl_weight": 0.5, "gradient_weight": 0.25, "spectral_weight": 0.125}
    images, reconstruction = noise(2, 1, 8, 8), noise(2, 1, 8, 8, seed=1)
    mean, log_sigma = noise(2, 3, 4, 4), noise(2, 3, 4, 4, seed=1)
    training = AutoencoderTraining.model_validate(weights)
    found = autoencoder_losses(training, images, reconstruction, mean, log_sigma)
    assert set(found) == {"loss", "l1", "kl", "gradient", "spectral"}
    assert float(found["l1"]) == pytest.approx(float((images - reconstruction).abs().mean()))
    expected = (
        found["l1"] + 0.5 * found["kl"] + 0.25 * found["gradient"] + 0.125 * found["spectral"]
    )
    assert float(found["loss"]) == pytest.approx(float(expected))
    plain = autoencoder_losses(AutoencoderTraining(), images, reconstruction, mean, log_sigma)
    assert set(plain) == {"loss", "l1", "kl"}


def adversary(dims: int = 3, seed: int = 0) -> Adversary:
    return Adversary(
        Adversarial(layers=1, channels=4),
        spatial_dims=dims,
        in_channels=1,
        lr=1e-2,
        seed=seed,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("dims", [2, 3])
def test_adversarial_losses_are_least_squares_and_monais(dims: int) -> None:
    subject = adversary(dims)
    real, fake = noise(2, 1, *[8] * dims), noise(2, 1, *[8] * dims, seed=1)
    judged = {name: subject.network(x)[-1].detach() for name, x in (("real", real), ("fake", fake))}
    # MONAI's least squares: through a leaky ReLU of slope 0.05, towards 1 for originals, 0 else.
    real_at, fake_at = (functional.leaky_relu(judged[name], 0.05) for name in ("real", "fake"))
    generator = float(subject.generator_loss(fake).detach())
    own = float(subject.discriminator_loss(real, fake).detach())
    assert generator == pytest.approx(float((fake_at - 1).square().mean()), rel=1e-5)
    by_hand = 0.5 * ((real_at - 1).square().mean() + fake_at.square().mean())
    assert own == pytest.approx(float(by_hand), rel=1e-5)
    theirs = PatchAdversarialLoss(criterion="least_squares")
    assert generator == pytest.approx(float(theirs(judged["fake"], True, False)), rel=1e-5)


def test_each_side_moves_its_own_weights_only() -> None:
    subject = adversary()
    fake = noise(1, 1, 8, 8, 8).requires_grad_()
    subject.generator_loss(fake).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert fake.grad is not None
    assert bool(fake.grad.abs().sum() > 0)
    assert all(parameter.grad is None for parameter in subject.network.parameters())
    fake.grad = None
    subject.discriminator_loss(noise(1, 1, 8, 8, 8, seed=1), fake).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in subject.network.parameters())


def test_a_discriminator_goes_on_from_its_state() -> None:
    real, fake = noise(1, 1, 8, 8, 8), noise(1, 1, 8, 8, 8, seed=1)

    def step(subject: Adversary) -> float:
        loss = subject.discriminator_loss(real, fake)
        subject.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        subject.optimizer.step()
        return float(loss.detach())

    whole, other = adversary(), adversary(seed=1)
    assert step(adversary()) == step(whole), "the seed decides the weights"
    other.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert [step(whole), step(whole)] == [step(other), step(other)]
