"""A model as a checkpoint of the released CCELLA code (arXiv:2506.10230)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from voxella.plugins.contracts import Exported
from voxella.sampling.trained_model import TrainedModel
from voxella_backbones.released import to_released_state_dict as unet_names
from voxella_conditioners.released import to_released_state_dict as adapter_names
from voxella_model_exporters.writing import refuse_misfits, write_torch

__all__ = ["export_ccella"]

_WITHOUT_TEXT = ("none", "radclass")
_WITH_TEXT = ("ella", "ccella", "shared", "first", "last")
# The released code multiplies both by 100, and joins them in this order.
_VECTORS = (("class", 100.0), ("spacing", 100.0))


def export_ccella(model: Path, out: Path) -> Exported:
    """Write ``NAME.pt``: ``unet_state_dict``, ``scale_factor`` and ``num_train_timesteps``.

    Args:
        model: The model folder.
        out: Receives the file.

    Raises:
        UserError: The released code has no such network.
    """
    found = TrainedModel.open(model)
    refuse_misfits(
        "ccella",
        list(_misfits(found)),
        fits="maisi_unet with conditioner "
        + ", ".join((*_WITHOUT_TEXT, *_WITH_TEXT))
        + ", vectors class and spacing with scale 100",
        remedy="voxella plugins   (lists the other model_exporters)",
    )
    network, recipe = found.network, found.recipe
    text = recipe.conditioner.name in _WITH_TEXT
    state = unet_names(network.backbone.state_dict(), inside=text)
    if text:
        state |= adapter_names(network.conditioner.state_dict(), recipe.conditioner.name)
    content: dict[str, Any] = {
        "num_train_timesteps": recipe.diffusion.steps,
        # As released: a tensor of float32.
        "scale_factor": torch.tensor(found.facts.latent_scale),
        "unet_state_dict": state,
    }
    if network.null_text is not None:
        content["null_text"] = network.null_text
    path = write_torch(out / f"{recipe.name}.pt", content)
    remarks = [f"{len(state)} tensors, {sum(t.numel() for t in state.values()):,} numbers"]
    if network.null_text is not None:
        remarks.append("null_text, the empty report's features, is read by voxella alone")
    released = ("scaled_linear", 1000, 0.0015, 0.0195, "epsilon")
    own = recipe.diffusion
    if (own.schedule, own.steps, own.beta_start, own.beta_end, own.prediction) != released:
        remarks.append(
            "set in the released code's configuration, which the file does not hold: schedule "
            f"{own.schedule}, {own.steps} steps, betas {own.beta_start:g} to {own.beta_end:g}, "
            f"prediction {own.prediction}"
        )
    return Exported([path], remarks)


def _misfits(found: TrainedModel) -> Iterator[str]:
    recipe = found.recipe
    if recipe.backbone.name != "maisi_unet":
        yield f"backbone {recipe.backbone.name}"
    if recipe.conditioner.name not in (*_WITHOUT_TEXT, *_WITH_TEXT):
        yield f"conditioner {recipe.conditioner.name}"
    own = [(vector.name, float(vector.scale)) for vector in recipe.vectors]
    if own != [vector for vector in _VECTORS if vector[0] in dict(own)]:
        told = ", ".join(f"{name} x {scale:g}" for name, scale in own)
        yield f"vectors {told}"
    if isinstance(found.facts.latent_scale, list):
        yield "one factor on latents for each channel"
