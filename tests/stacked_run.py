"""A run of two sequences, T2w and ADC, encoded by one frozen network; some cases lack the ADC."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_run import REPOSITORY
from torch import nn

from voxella.cache.stage import encode
from voxella.case import Case, Manifest
from voxella.imaging.volume import write_volume
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.preparation.stage import prepare
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

LACKING = ("c1", "c4")
ADC_MOST = 3000.0


def write_weights(path: Path) -> Path:
    """Weights of a network of one channel and two of latent, drawn by chance."""
    block = Component.model_validate({"name": "kl", "channels": [8, 16, 16], "norm_groups": 8})
    built = registry.build("autoencoders", block, spatial_dims=3, in_channels=1, latent_channels=2)
    module, generator = cast("nn.Module", built), torch.Generator().manual_seed(5)
    state = module.state_dict()
    drawn = {name: torch.randn(v.shape, generator=generator) * 0.2 for name, v in state.items()}
    save_file(drawn, path)
    return path


def write_dataset(folder: Path, cases: int = 6) -> Path:
    """Cases of smooth noise, ADC in 1e-6 mm2/s; those of :data:`LACKING` have none."""
    generator = np.random.default_rng(8)
    affine, made = np.diag([8.0, 8.0, 6.0, 1.0]), []
    for number in range(cases):
        name, images = f"c{number}", {}
        for sequence, most in (("t2w", 900.0), ("adc", ADC_MOST)):
            if sequence == "adc" and name in LACKING:
                continue
            images[sequence] = f"images/{name}_{sequence}.nii.gz"
            voxels = generator.random((16, 16, 16)).astype(np.float32) * most
            write_volume(folder / images[sequence], voxels, affine)
        split = "val" if number == cases - 1 else "train"
        made.append(
            Case.model_validate({"id": name, "group": name, "images": images, "split": split})
        )
    Manifest(folder, made).write()
    return folder


def stacked_recipe(root: Path, *settings: str) -> Recipe:
    """The recipe, over a data set and weights that :func:`stacked_run` writes below ``root``."""
    own = [
        f"data.dataset={root / 'dataset'}",
        "data.sequences=[t2w,adc]",
        "data.optional=[adc]",
        "autoencoder.per_sequence=true",
        f"autoencoder.weights={root / 'one.safetensors'}",
        "autoencoder_training=null",
        "observers=[]",
        "sample.int16_scale=null",
    ]
    return load_recipe(str(REPOSITORY / "recipes" / "base.yaml"), ["smoke"], [*own, *settings])


def stacked_run(root: Path, *settings: str) -> tuple[Recipe, Folders]:
    """Write the data set, prepare and encode it into ``root/run``."""
    write_dataset(root / "dataset")
    write_weights(root / "one.safetensors")
    recipe = stacked_recipe(root, *settings)
    folders = Folders.of(root / "run", recipe.workspace, recipe.data.dataset)
    prepare(recipe, folders.dataset, folders.prepared, workers=1)
    encode(recipe, folders.prepared, folders.dataset, folders.work, None, device="cpu")
    return recipe, folders
