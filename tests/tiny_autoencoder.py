"""A recipe that trains a tiny autoencoder, volumes to train it on, and one that needs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from voxella.case import Case, Manifest
from voxella.data.volumes import PreparedVolumes
from voxella.imaging.volume import write_volume
from voxella.plugins.contracts import Autoencoder
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

KL = {"name": "kl", "channels": [8, 8], "norm_groups": 4}
CPU = torch.device("cpu")


def recipe(training: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    block = {"steps": 8, "batch_size": 2, "lr": 3e-3, "log_every": 2} | (training or {})
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
                    "patient": f"p{number}",
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
