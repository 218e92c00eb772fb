"""A recipe that trains a tiny autoencoder, volumes to train it on, and one that needs none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from voxella.autoencoder import train as stage
from voxella.case import Case, Manifest
from voxella.data.volumes import PreparedVolumes
from voxella.imaging.volume import write_volume
from voxella.plugins.contracts import Autoencoder
from voxella.plugins.specs import hookimpl
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

KL = {"name": "kl", "channels": [8, 8], "norm_groups": 4}
CPU = torch.device("cpu")


def recipe(training: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    block = {"steps": 8, "batch_size": 2, "lr": 3e-3, "log_every": 1} | (training or {})
    return Recipe.model_validate(
        {
            "name": "test",
            "autoencoder": KL,
            "autoencoder_training": block,
            "latent": {"channels": 2, "size": [8, 8, 4]},
            "conditioner": {"name": "none"},
            "backbone": {"name": "maisi_unet"},
            "train": {"steps": 1},
            "deepspeed": {},
        }
        | changes
    )


def make_prepared(folder: Path, *, splits: str = "ttttv") -> Path:
    """Balls on a dark ground: cases differ in radius. t, v, e: train, val, test."""
    names = {"t": "train", "v": "val", "e": "test"}
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (16, 16, 8)), indexing="ij"))
    centre = np.array([8, 8, 4]).reshape(3, 1, 1, 1)
    distance = np.sqrt((((grid - centre) * np.array([1, 1, 2]).reshape(3, 1, 1, 1)) ** 2).sum(0))
    cases = []
    for number, split in enumerate(splits):
        ball = 1 / (1 + np.exp(distance - 3 - number))
        name = f"images/c{number}_t2w.nii.gz"
        write_volume(folder / name, ball.astype(np.float32), np.eye(4))
        cases.append(
            Case.model_validate(
                {
                    "id": f"c{number}",
                    "group": f"p{number}",
                    "images": {"t2w": name},
                    "split": names[split],
                    "extra": {"spacing_mm": [1.0, 1.0, 2.0]},
                }
            )
        )
    Manifest(folder, cases).write()
    StageRecord(folder, "prepare", {"test": splits}).complete()
    return folder


def volumes_of(folder: Path) -> PreparedVolumes:
    return PreparedVolumes(folder, sequences=["t2w"], spatial_dims=3)


OnStep = Callable[[int, Mapping[str, float]], None]


class Watch:
    """An observer that hands every step and its losses, by their own names, to a function."""

    def __init__(self, act: OnStep) -> None:
        self.act = act

    @hookimpl
    def voxella_step_end(self, step: int, scalars: Mapping[str, float]) -> None:
        named = {k.removeprefix("loss/"): v for k, v in scalars.items() if k.startswith("loss/")}
        self.act(step, {"loss": named.pop("total"), **named})


_watching: list[OnStep] = []


def watch() -> Watch:
    """A builder for VOXELLA_PLUGINS: observers:watch=tiny_autoencoder:watch."""
    return Watch(_watching[-1])


@contextmanager
def watching(act: OnStep | None) -> Iterator[list[dict[str, str]]]:
    """Give the observers that call ``act`` at every step; none for None."""
    if act is None:
        yield []
        return
    _watching.append(act)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXELLA_PLUGINS", "observers:watch=tiny_autoencoder:watch")
        yield [{"name": "watch"}]
    _watching.pop()


def train_autoencoder(
    wanted: Recipe,
    prepared: Path,
    out: Path,
    *,
    checkpoint_every: int | None = None,
    on_step: OnStep | None = None,
) -> Path:
    """Train to the end, in this process."""
    told = wanted.model_dump(mode="json")
    if checkpoint_every is not None:
        told["autoencoder_training"]["checkpoint_every"] = checkpoint_every
    with watching(on_step) as observers:
        found = stage.train_autoencoder(
            Recipe.model_validate({**told, "observers": observers}), prepared, out
        )
    assert found is not None
    return found


class Codebook(nn.Module):
    """A tiny autoencoder with a codebook (van den Oord et al. 2017), a parameter of its own.

    The latent is what lies before the codebook, as in latent diffusion; ``decode`` looks up.
    """

    factor = 2

    def __init__(self, spatial_dims: int, in_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        down, up = (
            (nn.Conv2d, nn.ConvTranspose2d)
            if spatial_dims == 2
            else (nn.Conv3d, nn.ConvTranspose3d)
        )
        self.down = down(in_channels, latent_channels, 2, stride=2)
        self.up = up(latent_channels, in_channels, 2, stride=2)
        self.codes = nn.Parameter(torch.randn(8, latent_channels))

    def encode(self, images: Tensor) -> tuple[Tensor, None]:
        mean: Tensor = self.down(images)
        return mean, None

    def decode(self, latents: Tensor) -> Tensor:
        # Straight through: the gradient passes by the look-up.
        images: Tensor = self.up(latents + (self.nearest(latents) - latents).detach())
        return images

    def nearest(self, latents: Tensor) -> Tensor:
        flat = latents.movedim(1, -1)
        chosen = (flat[..., None, :] - self.codes).square().sum(-1).argmin(-1)
        return self.codes[chosen].movedim(-1, 1)

    def training_losses(
        self, images: Tensor, mean: Tensor, reconstruction: Tensor
    ) -> dict[str, Tensor]:
        nearest = self.nearest(mean)
        codebook = (nearest - mean.detach()).square().mean()
        return {
            "codebook": codebook,
            "commitment": 0.25 * (nearest.detach() - mean).square().mean(),
        }


def codebook(*, spatial_dims: int, in_channels: int, latent_channels: int) -> Autoencoder:
    """A builder for VOXELLA_PLUGINS: autoencoders:codebook=tiny_autoencoder:codebook."""
    return Codebook(spatial_dims, in_channels, latent_channels)


class Offset(nn.Module):
    """Gives back the image plus a constant; latent channel 1 is a standard normal's noise."""

    factor, latent_channels = 1, 2
    offset: Tensor

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.register_buffer("offset", torch.tensor(offset))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.cat([images, torch.zeros_like(images)], dim=1)
        log_sigma = torch.cat([torch.full_like(images, -2.0), torch.zeros_like(images)], dim=1)
        return mean, log_sigma

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :1] + self.offset


def offset(
    *, spatial_dims: int, in_channels: int, latent_channels: int, offset: float = 0.0
) -> Autoencoder:
    """A builder for VOXELLA_PLUGINS: autoencoders:offset=tiny_autoencoder:offset."""
    return Offset(offset)
