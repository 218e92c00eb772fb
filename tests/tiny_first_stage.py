"""A recipe that trains a tiny VQ on tiles as latent diffusion does, and prepared tiles for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tile_data import tile

from voxella.case import Case, Manifest
from voxella.imaging.write import write_image
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

__all__ = ["ADVERSARY", "EDGE", "TRAINING", "make_tiles", "recipe_of_tiles"]

EDGE = 16
ADVERSARY: dict[str, Any] = {
    "loss": "hinge",
    "norm": "batch",
    "adaptive": True,
    "weight": 0.75,
    "layers": 1,
    "channels": 4,
    "from_step": 1,
}
TRAINING: dict[str, Any] = {
    "steps": 5,
    "batch_size": 4,
    "lr": 2e-3,
    "lr_schedule": "constant",
    "betas": [0.5, 0.9],
    "log_every": 1,
    "adversarial": ADVERSARY,
}


def make_tiles(folder: Path, *, splits: str = "ttttvv") -> Path:
    """Tiles of 16 x 16 pixels in colour, as ``voxella prepare`` leaves them."""
    names = {"t": "train", "v": "val", "e": "test"}
    cases = []
    for number, split in enumerate(splits):
        name = f"images/c{number}_he.nii.gz"
        pixels = np.moveaxis(tile(number, EDGE), -1, 0).astype(np.float32) / 255
        write_image(folder / name, pixels, np.eye(4))
        cases.append(
            Case(id=f"c{number}", group=f"s{number}", images={"he": name}, split=names[split])
        )
    Manifest(folder, cases).write()
    StageRecord(folder, "prepare", {"test": splits}).complete()
    return folder


def recipe_of_tiles(training: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Return a recipe whose autoencoder is a VQ of factor 2."""
    return Recipe.model_validate(
        {
            "name": "tiles",
            "data": {"sequences": ["he"]},
            "prepare": {
                "crop_mm": [None, None],
                "size": [EDGE, EDGE],
                "intensity": {"he": {"rule": "colour"}},
            },
            "autoencoder": {"name": "vq", "channels": [8, 8], "norm_groups": 4, "codes": 16},
            "autoencoder_training": TRAINING | (training or {}),
            "latent": {"channels": 3, "size": [EDGE // 2, EDGE // 2]},
            "conditioner": {"name": "none"},
            "backbone": {"name": "ldm_unet"},
            "train": {"steps": 1},
            "deepspeed": {},
        }
        | changes
    )
