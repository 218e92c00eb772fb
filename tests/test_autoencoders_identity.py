"""No autoencoder: pixels as they are, between -1 and 1."""

from __future__ import annotations

import pytest
import torch

from voxella.errors import UserError
from voxella.testing.runner import run_contract
from voxella_backbones.linear import build_identity


def test_it_holds_its_contract() -> None:
    results = list(run_contract("autoencoders", "identity"))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert [r.check for r in results if r.outcome == "skipped"] == [
        "gradients reach every parameter"
    ]


@pytest.mark.parametrize("spatial", [(3, 5), (2, 3, 4)])
def test_black_is_minus_one_and_white_one(spatial: tuple[int, ...]) -> None:
    module = build_identity(in_channels=3, latent_channels=3)
    assert (module.factor, module.latent_channels) == (1, 3)
    images = torch.rand(2, 3, *spatial, generator=torch.Generator().manual_seed(0))
    images[0], images[1, 0] = 0.0, 1.0
    latents, log_sigma = module.encode(images)
    assert log_sigma is None
    assert torch.equal(latents[0], torch.full_like(images[0], -1.0))
    assert torch.equal(latents[1, 0], torch.ones_like(images[1, 0]))
    torch.testing.assert_close(module.decode(latents), images)


def test_only_a_sample_is_clipped() -> None:
    module = build_identity(in_channels=1, latent_channels=1)
    assert isinstance(module, torch.nn.Module)
    latents = torch.tensor([[[[-1.5, 0.0, 3.0]]]])
    assert module.train().decode(latents).tolist() == [[[[-0.25, 0.5, 2.0]]]]
    assert module.eval().decode(latents).tolist() == [[[[0.0, 0.5, 1.0]]]]


def test_channels_that_differ_are_refused() -> None:
    with pytest.raises(UserError, match="images of 3 channels, latents of 4") as raised:
        build_identity(in_channels=3, latent_channels=4)
    assert raised.value.remedy == "--set latent.channels=3"
