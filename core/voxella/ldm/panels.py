"""Fixed-seed sample panels while training: the same two cases, the same noise, every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.diffusion.samplers import make_sampler, quickest
from voxella.engine.train import Panel
from voxella.files import atomic_path
from voxella.imaging.montage import three_planes, write_png
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.request import request_for
from voxella.observers.dispatch import ObserverSet
from voxella.ranks import Ranks
from voxella.workspace.folders import Folders

__all__ = ["make_panel"]

_CASES = 2


def make_panel(
    steps: int,
    settings: GenerationSettings,
    plan: AutoencoderPlan,
    folders: Folders,
    builder: LatentBatchBuilder,
    ranks: Ranks,
    observers: ObserverSet,
) -> Panel:
    """Return what draws a panel at a step.

    Every process computes the samples, for under ZeRO 3 each holds a part of the weights; rank 0
    decodes and shows them.

    Args:
        steps: Of the sampler.
        settings: How latents are generated.
        plan: What the autoencoder is built from.
        folders: Of the run.
        builder: Makes the training's batches; two of its cases are shown.
        ranks: This process.
        observers: Shown the pictures.
    """
    cases = [builder.cases[case_id] for case_id in sorted(builder.cases)[:_CASES]]
    text, told = builder.text, builder.settings
    requests = [
        request_for(
            told.classes,
            told.conditions,
            case,
            text.read(case.id)[0] if text else None,
            f"panel-{case.id}",
        )
        for case in cases
    ]

    def panel(step: int, model: LatentDiffusion) -> None:
        name, _ = quickest(model.schedule.name)
        sampler = make_sampler(name, model.schedule, steps)
        made = generate(model, settings, requests, device=ranks.device, sampler=sampler)
        if not ranks.is_main:
            return
        # Loaded anew each time: between panels its memory belongs to training.
        coder = load_autoencoder(plan, folders.autoencoder, ranks.device)
        autoencoder = tiled(coder, plan, ranks.device, alone=True)
        for number, request in enumerate(requests):
            image = autoencoder.decode(made.latents[number : number + 1]).clamp(0, 1)
            # The first sequence: one channel, or three.
            shown = image[0, : plan.shown]
            solid = shown.reshape(*shown.shape, *[1] * (4 - shown.ndim)).float().cpu().numpy()
            spacing = request.spacing_mm or (1.0,) * len(plan.latent.size)
            picture = three_planes(np.asarray(solid), spacing)
            observers.images(step, f"panel/{number}", picture)
            _write(folders.run / "train" / "panels" / f"step-{step:08d}-{number}.png", picture)

    return panel


def _write(path: Path, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with atomic_path(path) as temporary:
        write_png(temporary, picture)
