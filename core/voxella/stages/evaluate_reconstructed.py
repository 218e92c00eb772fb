"""What a probe finds in real volumes that have been through the autoencoder alone.

A diffusion model on latents shows what their decoder can draw. What the probe cannot tell after
the autoencoder, it can tell of no such model, however well that reads: without this number beside
it, low adherence would be blamed on the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from voxella.detection import Detection
from voxella.plugins.contracts import Probe
from voxella.progress import Steps
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder_measure import reconstruct
from voxella.stages.autoencoder_model import load_autoencoder
from voxella.stages.evaluate_sets import Subject
from voxella.stages.evaluate_sightings import Look, take_all, unseen
from voxella.stages.evaluate_volumes import read_subject
from voxella.stages.tiling import tiled

__all__ = ["reconstructed_sightings"]

# Volumes given back before they are looked at: what lies in memory at a time.
_AT_A_TIME = 24


def reconstructed_sightings(
    probe: Probe,
    recipe: Recipe,
    trained: Path,
    subjects: Sequence[Subject],
    channel: int,
    kept: Path,
    device: torch.device,
) -> list[Detection]:
    """Encode and decode volumes through the latent's mean, and say what is seen of each.

    Args:
        probe: What looks.
        recipe: The experiment.
        trained: The folder of an autoencoder that the recipe trains.
        subjects: Real cases that the probe knows.
        channel: Which of their images is looked at.
        kept: Where what is seen is kept.
        device: Where the autoencoder computes.

    Returns:
        In the order of ``subjects``.

    Raises:
        UserError: The autoencoder has no weights, or a volume cannot be read.
    """
    coder = load_autoencoder(recipe, trained, device)
    looks = [Look(probe, subject, channel, kept, coder.fingerprint) for subject in subjects]
    missing = unseen(looks)
    if missing:
        model = tiled(coder, recipe, device, alone=True, quiet=True)
        with Steps("evaluate: lesions after the autoencoder", len(missing)) as steps:
            for start in range(0, len(missing), _AT_A_TIME):
                ready = []
                for look in missing[start : start + _AT_A_TIME]:
                    given_back = reconstruct(model, read_subject(look.subject)[None], device)
                    ready.append(replace(look, given_back=given_back[0, channel].numpy()))
                for _ in take_all(ready):
                    steps.advance()
    return [seen for look in looks if (seen := look.known()) is not None]
