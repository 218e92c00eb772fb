"""Small models that were never trained, in exported folders: for what reads such folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from voxella.autoencoder.load import AutoencoderPlan, build_autoencoder, fingerprint
from voxella.ldm.build import build_model
from voxella.ldm.model_folder.facts import ModelFacts
from voxella.ldm.model_folder.folder import save_model
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.yaml_lines import dump_yaml
from voxella.weights import write_state_dict

__all__ = ["SMALL_MODELS", "draw_weights", "small_model"]

_SCALE = 0.875
_TEXT_WIDTH = 6
_VOLUME: dict[str, Any] = {
    "prepare": {"crop_mm": [None, None, None], "size": [16, 16, 16]},
    "latent": {"channels": 4, "size": [4, 4, 4]},
    "autoencoder": {"name": "maisi", "channels": [8, 8, 8], "res_blocks": 1, "norm_groups": 4},
    "backbone": {
        "name": "maisi_unet", "channels": [8, 16], "attention": [False, True],
        "head_channels": 8, "res_blocks": 1, "norm_groups": 8,
    },
    "conditioner": {"name": "none"},
    "vectors": [{"name": "spacing", "scale": 100}],
}  # fmt: skip
_TILE: dict[str, Any] = {
    "data": {"sequences": ["he"], "classes": ["low", "high"]},
    "prepare": {
        "crop_mm": [None, None], "size": [16, 16], "intensity": {"he": {"rule": "colour"}},
    },
    "latent": {"channels": 3, "size": [4, 4], "draw": "mean"},
    "autoencoder": {"name": "vq", "channels": [8, 8, 8], "norm_groups": 4, "codes": 8},
    "backbone": {
        "name": "ldm_unet", "channels": [8, 16], "attention": [False, True], "res_blocks": 1,
        "norm_groups": 8,
    },
    "conditioner": {"name": "none"},
}  # fmt: skip
_TEXT = {"text": {"encoder": {"name": "minilm"}, "width": _TEXT_WIDTH, "max_tokens": 8}}
_ELLA = {"width": 8, "queries": 2, "blocks": 2, "heads": 2}

# name -> the recipe, but for what all have
SMALL_MODELS: dict[str, dict[str, Any]] = {
    "volume": _VOLUME,
    "volume_with_text": {
        **_VOLUME, **_TEXT,
        "conditioner": {"name": "ccella", "head_hidden": 4, **_ELLA},
        "vectors": [{"name": "class", "scale": 100}, *_VOLUME["vectors"]],
    },
    "tile": _TILE,
    "tile_with_text": {**_TILE, **_TEXT, "conditioner": {"name": "cross_attention"}},
}  # fmt: skip


def small_model(folder: Path, blocks: dict[str, Any], *, seed: int = 0) -> Path:
    """Write a model of random weights, with its autoencoder, and return its folder.

    Args:
        folder: Receives ``model``, and files that are of no further use.
        blocks: Of the recipe, such as one of :data:`SMALL_MODELS`.
        seed: Of the weights; every parameter is drawn, those too that training starts at zero.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    shared: dict[str, Any] = {
        "name": "small",
        "autoencoder_training": {"steps": 1, "batch_size": 1},
        "train": {"steps": 1},
        "deepspeed": {"train_batch_size": 1},
        "sample": {"sampler": "ddim", "steps": 2},
    }
    path.write_text(dump_yaml({**shared, **blocks}), encoding="utf-8")
    recipe = load_recipe(path)
    plan = AutoencoderPlan.of(recipe)
    model, autoencoder = build_model(recipe), cast("nn.Module", build_autoencoder(plan))
    generator = torch.Generator().manual_seed(seed)
    for module in (model, autoencoder):
        draw_weights(module, generator)
    weights = folder / "autoencoder.safetensors"
    write_state_dict(weights, autoencoder.state_dict())
    width = recipe.text.width if recipe.text else None
    axes = len(recipe.latent.size)
    facts = ModelFacts(
        latent_scale=_SCALE,
        step=1,
        averaged=False,
        classes=list(recipe.data.classes),
        vectors=list(model.vectors),
        spacing_mm={"min": [0.5] * axes, "max": [1.5] * axes},
        text=None if width is None else {"width": width, "encoder": "0" * 64},
        autoencoder_fingerprint=fingerprint(recipe.autoencoder, autoencoder),
    )
    null_text = None if width is None else torch.randn(1, 2, width, generator=generator)
    state = dict(model.state_dict())
    return save_model(
        folder / "model", state, dump_recipe(recipe), facts, null_text, autoencoder=weights
    )


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter small, but for scales of norms, which lie around 1."""
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        inputs = max(1, parameter[0].numel()) if parameter.ndim > 1 else 10
        scale_of_norm = parameter.ndim == 1 and name.endswith("weight")
        parameter.data = drawn / inputs**0.5 + float(scale_of_norm)
