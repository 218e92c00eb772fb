"""A model as weights of MONAI's MAISI classes, in the layout of MAISI's own checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch

from voxella.files import write_json_atomic
from voxella.plugins.contracts import Exported
from voxella.sampling.trained_model import TrainedModel
from voxella_model_exporters.monai_networks import (
    FITS,
    autoencoder_definition,
    misfits,
    unet_definition,
)
from voxella_model_exporters.writing import refuse_misfits, write_torch

__all__ = ["AUTOENCODER", "UNET", "definitions", "export_maisi", "write_weights"]

UNET, AUTOENCODER, CONFIG = "diff_unet.pt", "autoencoder.pt", "config_network.json"


def export_maisi(model: Path, out: Path, autoencoder_weights: Path | None = None) -> Exported:
    """Write ``diff_unet.pt``, ``autoencoder.pt`` and ``config_network.json``.

    Args:
        model: The model folder.
        out: Receives the files.
        autoencoder_weights: Of the recipe's autoencoder, where they lie elsewhere.

    Raises:
        UserError: MONAI has no such network.
    """
    found = TrainedModel.open(model, autoencoder_weights=autoencoder_weights)
    refuse_misfits(
        "maisi",
        list(misfits(found)),
        fits=FITS,
        remedy=f"voxella export ccella {model} --out {out}   (keeps reports and classes)",
    )
    weights = write_weights(found, out)
    config = out / CONFIG
    write_json_atomic(config, definitions(found))
    scale = next((vector.scale for vector in found.recipe.vectors), None)
    remarks = [f"{CONFIG} holds the arguments of MONAI's classes, for its ConfigParser"]
    if scale is not None:
        remarks.append(f"spacing_tensor is the voxel's edges in mm times {scale:g}")
    if found.recipe.diffusion.schedule == "rectified_flow":
        remarks.append("timesteps: this network's t is t - 1 of MONAI's RFlowScheduler")
    return Exported([*weights, config], remarks)


def definitions(found: TrainedModel) -> dict[str, object]:
    """Return the arguments of both networks."""
    recipe = found.recipe
    channels = (recipe.image_channels, recipe.latent.channels)
    axes = len(recipe.latent.size)
    return {
        "diffusion_unet_def": unet_definition(found),
        "autoencoder_def": autoencoder_definition(recipe.autoencoder, axes, channels),
    }


def write_weights(found: TrainedModel, out: Path) -> list[Path]:
    """Write both networks' weights under MONAI's names, which are ours."""
    content = {
        "num_train_timesteps": found.recipe.diffusion.steps,
        "scale_factor": torch.tensor(found.facts.latent_scale),
        "unet_state_dict": found.network.backbone.state_dict(),
    }
    return [
        write_torch(out / UNET, content),
        write_torch(out / AUTOENCODER, found.autoencoder.state_dict()),
    ]
