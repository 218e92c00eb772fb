"""EQ-VAE's term: nothing for what is equivariant, and by hand for what is not."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from tiny_autoencoder import recipe
from torch import Tensor, nn
from torch.nn import functional

from voxella.autoencoder.equivariance import Transform, draw_transform, equivariance_l1
from voxella.autoencoder.patches import PatchBatch
from voxella.autoencoder.settings import deciding_settings
from voxella.autoencoder.task import AutoencoderTask, autocast
from voxella.plugins.contracts import Autoencoder
from voxella.recipe.training import AutoencoderTraining, Equivariance

CPU = torch.device("cpu")


def images(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(8, 8, 4), (8, 8)])
def test_boxes_are_equivariant_and_a_ramp_is_not(size: tuple[int, ...]) -> None:
    """Latents are means over boxes of 2; the decoder repeats them: turning commutes with both."""
    flat = functional.interpolate(
        images(*(edge // 2 for edge in size)), scale_factor=2.0, mode="nearest"
    )
    latents = functional.interpolate(flat, scale_factor=0.5, mode="area")

    def repeat(z: Tensor) -> Tensor:
        return functional.interpolate(z, scale_factor=2.0, mode="nearest")

    halves = tuple(edge // 2 for edge in size)
    for turns in range(4):
        turned = Transform(halves, (0, 1), turns)
        loss = equivariance_l1(repeat, flat, latents, turned)
        assert float(loss) == pytest.approx(0.0, abs=1e-6)

    def uneven(z: Tensor) -> Tensor:
        made = repeat(z)
        ramp = torch.arange(made.shape[2]).reshape(-1, *[1] * (made.ndim - 3))
        return made + 0.1 * ramp

    # A ramp of 0, 0.1, ... over eight voxels adds 0.35 on average, however the latent is turned.
    assert float(equivariance_l1(uneven, flat, latents, Transform(halves, (0, 1), 1))) == (
        pytest.approx(0.35, abs=1e-6)
    )


def test_an_image_shrinks_as_its_latent_and_turns_with_it() -> None:
    image = images(8, 8, 4)
    small = Transform((2, 2, 1), (0, 1), 1).apply(image, factor=2)
    assert small.shape == (2, 1, 4, 4, 2)
    by_hand = image.reshape(2, 1, 4, 2, 4, 2, 2, 2).mean(dim=(3, 5, 7))
    # Counter-clockwise by 90 degrees: rows become columns, from the last to the first.
    torch.testing.assert_close(small, by_hand.transpose(2, 3).flip(2))


def test_transforms_are_a_function_of_the_step() -> None:
    settings = Equivariance(scale=0.25)
    drawn = [draw_transform(settings, (16, 16, 8), seed=3, step=step) for step in range(400)]
    assert drawn == [
        draw_transform(settings, (16, 16, 8), seed=3, step=step) for step in range(400)
    ]
    assert {one.size[0] for one in drawn} == set(range(4, 17))
    assert all(abs(one.size[2] - one.size[0] / 2) <= 0.5 for one in drawn)
    assert {one.turns for one in drawn} == {0, 1, 2, 3}
    assert {one.plane for one in drawn} == {(0, 1)}, "the others have unequal edges"
    plain = draw_transform(Equivariance(scale=1, turns=False), (16, 8), seed=3, step=1)
    assert plain == Transform((16, 8))


class Blend(nn.Module):
    """One number up, one down: images of two voxels a latent voxel."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.tensor(0.8))

    def encode(self, image: Tensor) -> tuple[Tensor, None]:
        return functional.avg_pool3d(image, 2) * self.up, None

    def decode(self, z: Tensor) -> Tensor:
        return functional.interpolate(z, scale_factor=2.0, mode="nearest")


def test_the_task_adds_the_term_and_its_gradient_reaches_the_encoder() -> None:
    block: dict[str, Any] = {"equivariance": {"weight": 0.5, "scale": 0.5}}
    ours = AutoencoderTraining.model_validate(block)
    model = Blend()
    batch = PatchBatch(("a", "b"), images(8, 8, 4), torch.zeros(2, 1, 4, 4, 2), 7, 1.0)

    def losses(settings: AutoencoderTraining) -> dict[str, Tensor]:
        networks = autocast(settings, CPU)
        made: dict[str, Tensor] = AutoencoderTask(
            cast("Autoencoder", model), settings, networks, seed=5
        )(batch)
        return made

    plain, with_it = losses(AutoencoderTraining()), losses(ours)
    assert "equivariance" not in plain
    asked = ours.equivariance
    assert asked is not None
    transform = draw_transform(asked, (4, 4, 2), seed=5, step=7)
    latents, _ = model.encode(batch.images)
    expected = equivariance_l1(model.decode, batch.images, latents, transform)
    torch.testing.assert_close(with_it["equivariance"], expected.detach())
    torch.testing.assert_close(with_it["loss"], plain["loss"] + 0.5 * with_it["equivariance"])
    (through,) = torch.autograd.grad(expected, [model.up])
    (whole,) = torch.autograd.grad(with_it["total"], [model.up])
    (without,) = torch.autograd.grad(plain["total"], [model.up])
    assert float(through) != 0
    torch.testing.assert_close(whole, without + 0.5 * through)


def test_without_it_a_training_is_the_one_from_before() -> None:
    plain = recipe().autoencoder_training
    assert plain is not None
    assert "equivariance" not in deciding_settings(plain)
    assert deciding_settings(plain.model_copy(update={"equivariance": Equivariance()}))[
        "equivariance"
    ] == {"weight": 0.5, "scale": 0.25, "turns": True}
