"""A recipe of which only the `prepare` block matters."""

from __future__ import annotations

from typing import Any

from voxella.plugins.component import Component
from voxella.recipe.model import AutoencoderBlock, Data, Prepare, Recipe, Train

__all__ = ["recipe"]


def recipe(sequences: tuple[str, ...] = ("t2w",), **settings: Any) -> Recipe:
    """8 x 8 x 6 voxels of 1 mm and the whole depth, unless told otherwise."""
    settings = {"crop_mm": [8.0, 8.0, None], "size": [8, 8, 6], **settings}
    return Recipe(
        name="test",
        data=Data(sequences=list(sequences)),
        prepare=Prepare(**settings),
        autoencoder=AutoencoderBlock(name="kl"),
        conditioner=Component(name="none"),
        backbone=Component(name="maisi_unet"),
        train=Train(steps=1),
        deepspeed={},
    )
