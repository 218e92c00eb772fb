"""Autoguidance: a weaker version of the model, from whose predictions sampling is led away.

Karras et al. 2024, arXiv:2406.02507, equation 4: the same conditions, a model trained less or of
less capacity. Its errors are the model's own, larger; away from them lies what both aim at.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import load_model
from voxella.ldm.model_folder.facts import ModelFacts, load_facts

__all__ = ["load_weaker", "weaker_origin"]

_SAME_SCALE = 1e-4


def weaker_origin(folder: Path | None) -> dict[str, Any]:
    """Return what decides a volume of the weaker model, its weights; nothing where there is none.

    Raises:
        UserError: The folder holds no exported model.
    """
    return {} if folder is None else {"autoguidance": load_facts(folder).weights_sha256}


def load_weaker(folder: Path, model: LatentDiffusion, facts: ModelFacts) -> LatentDiffusion:
    """Load the model that ``sample.autoguidance`` names, on the CPU, in evaluation mode.

    Args:
        folder: An exported model.
        model: The one that it is a weaker version of.
        facts: Of that one.

    Raises:
        UserError: It is no exported model, or is told other things than the model is, so that
            their predictions cannot be compared.
    """
    weaker, own = load_model(folder), load_facts(folder)
    pairs = {
        "diffusion.prediction": (model.prediction, weaker.prediction),
        "diffusion.schedule": (model.schedule.name, weaker.schedule.name),
        "classes": (facts.classes, own.classes),
        "conditions": (model.conditions, weaker.conditions),
        "text features": (facts.text, own.text),
        "autoencoder": (facts.autoencoder_fingerprint, own.autoencoder_fingerprint),
    }
    other = [name for name, (mine, theirs) in pairs.items() if mine != theirs]
    if not other and not _same_noise(model, weaker):
        other = ["noise at a timestep (diffusion.steps, betas)"]
    if not _same_scale(facts.latent_scale, own.latent_scale):
        other.append("latent scale")
    if other:
        raise UserError(
            f"sample.autoguidance: {folder} differs from the model in {', '.join(other)}",
            expected="the same model trained less, or a smaller network trained on the same data",
            remedy="voxella ema RUN --step STEP --out FOLDER   (an early snapshot of the run)",
        )
    return weaker


def _same_noise(model: LatentDiffusion, weaker: LatentDiffusion) -> bool:
    mine, theirs = model.schedule.sigmas, weaker.schedule.sigmas
    return len(mine) == len(theirs) and torch.allclose(mine, theirs)


def _same_scale(mine: float | list[float], theirs: float | list[float]) -> bool:
    one = mine if isinstance(mine, list) else [mine]
    other = theirs if isinstance(theirs, list) else [theirs]
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=_SAME_SCALE) for a, b in zip(one, other, strict=True)
    )
