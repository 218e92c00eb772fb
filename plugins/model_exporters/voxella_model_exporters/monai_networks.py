"""MONAI's own classes for a model's networks: their arguments, and which models have them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi

from voxella.recipe.autoencoder import AutoencoderBlock
from voxella.sampling.trained_model import TrainedModel
from voxella_model_exporters.writing import arguments_of

__all__ = ["FITS", "autoencoder_definition", "misfits", "unet_definition"]

FITS = "maisi_unet without text and class, spacing its only vector; autoencoder maisi or kl"
_UNET = "monai.apps.generation.maisi.networks.diffusion_model_unet_maisi.DiffusionModelUNetMaisi"
_MAISI = "monai.apps.generation.maisi.networks.autoencoderkl_maisi.AutoencoderKlMaisi"
_KL = "monai.networks.nets.AutoencoderKL"
# Our argument -> MONAI's; the others that MONAI has, too, keep their name.
_RENAMED = {
    "channels": "num_channels",
    "attention": "attention_levels",
    "head_channels": "num_head_channels",
    "res_blocks": "num_res_blocks",
    "norm_groups": "norm_num_groups",
}
# How ours computes attention, which changes no value.
_OURS = frozenset({"upcast_attention", "flash_attention"})


def misfits(found: TrainedModel) -> Iterator[str]:
    """Yield what of a model MONAI's classes do not have."""
    recipe = found.recipe
    if recipe.backbone.name != "maisi_unet":
        yield f"backbone {recipe.backbone.name}"
    if recipe.conditioner.name != "none":
        yield f"conditioner {recipe.conditioner.name}: MONAI has no module for it"
    axes = len(recipe.latent.size)
    for vector in recipe.vectors:
        if vector.name != "spacing" or axes != 3:
            yield f"vector {vector.name} of {axes}D images"
    if recipe.autoencoder.name not in ("maisi", "kl"):
        yield f"autoencoder {recipe.autoencoder.name}"
    if recipe.autoencoder.per_sequence:
        yield "an autoencoder that runs over each sequence by itself"
    if isinstance(found.facts.latent_scale, list):
        yield "one factor on latents for each channel"


def unet_definition(found: TrainedModel) -> dict[str, Any]:
    """Return ``_target_`` and arguments of MONAI's U-Net, as its ``ConfigParser`` reads them."""
    recipe = found.recipe
    known = inspect.signature(DiffusionModelUNetMaisi.__init__).parameters
    given = arguments_of("backbones", recipe.backbone)
    own = {_RENAMED.get(key, key): value for key, value in given.items() if key not in _OURS}
    return {
        "_target_": _UNET,
        "spatial_dims": len(recipe.latent.size),
        "in_channels": recipe.latent.channels,
        "out_channels": recipe.latent.channels,
        "include_spacing_input": any(vector.name == "spacing" for vector in recipe.vectors),
        **{key: _plain(value) for key, value in own.items() if key in known},
    }


def autoencoder_definition(block: AutoencoderBlock, axes: int, channels: tuple[int, int]) -> Any:  # noqa: ANN401 - JSON
    """Return ``_target_`` and arguments of MONAI's autoencoder.

    Args:
        block: The recipe's.
        axes: Spatial axes.
        channels: Of image and latent.
    """
    own = arguments_of("autoencoders", block)
    levels = len(own["channels"])
    shared = {
        "spatial_dims": axes,
        "in_channels": channels[0],
        "out_channels": channels[0],
        "latent_channels": channels[1],
        "attention_levels": [False] * levels,
        "norm_num_groups": own["norm_groups"],
    }
    if block.name == "kl":
        return {
            "_target_": _KL,
            **shared,
            "channels": _plain(own["channels"]),
            "num_res_blocks": own["res_blocks"],
            "with_encoder_nonlocal_attn": False,
            "with_decoder_nonlocal_attn": False,
        }
    return {
        "_target_": _MAISI,
        **shared,
        "num_channels": _plain(own["channels"]),
        "num_res_blocks": [own["res_blocks"]] * levels,
        "with_encoder_nonlocal_attn": False,
        "with_decoder_nonlocal_attn": False,
        "num_splits": own["num_splits"],
        "dim_split": 1,
        "norm_float16": False,
        "save_mem": own["num_splits"] > 1,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - a recipe's value
    return list(value) if isinstance(value, tuple | list) else value
