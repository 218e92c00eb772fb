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
from voxella.ldm.batches import BatchMaker
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.generate import generate, request_for
from voxella.observers.dispatch import ObserverSet
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

__all__ = ["make_panel"]

_CASES = 2


def make_panel(
    recipe: Recipe, folders: Folders, maker: BatchMaker, ranks: Ranks, observers: ObserverSet
) -> Panel | None:
    """Return what draws a panel at a step, or None when the recipe asks for none.

    Every process computes the samples, for under ZeRO 3 each holds a part of the weights; rank 0
    decodes and shows them.
    """
    if not recipe.train.panel_every:
        return None
    cases = [maker.cases[case_id] for case_id in sorted(maker.cases)[:_CASES]]
    text = maker.text
    plan = AutoencoderPlan.of(recipe)
    requests = [
        request_for(recipe, case, text.read(case.id)[0] if text else None, f"panel-{case.id}")
        for case in cases
    ]

    def panel(step: int, model: LatentDiffusion) -> None:
        name, _ = quickest(model.schedule.name)
        sampler = make_sampler(name, model.schedule, recipe.train.panel_steps)
        made = generate(model, recipe, requests, device=ranks.device, sampler=sampler)
        if not ranks.is_main:
            return
        # Loaded anew each time: between panels its memory belongs to training.
        coder = load_autoencoder(plan, folders.autoencoder, ranks.device)
        autoencoder = tiled(coder, plan, ranks.device, alone=True)
        for number, request in enumerate(requests):
            image = autoencoder.decode(made.latents[number : number + 1]).clamp(0, 1)
            # The first sequence: one channel, or three.
            shown = image[0, : recipe.shown_channels]
            solid = shown.reshape(*shown.shape, *[1] * (4 - shown.ndim)).float().cpu().numpy()
            spacing = request.spacing_mm or (1.0,) * len(recipe.latent.size)
            picture = three_planes(np.asarray(solid), spacing)
            observers.images(step, f"panel/{number}", picture)
            _write(folders.run / "train" / "panels" / f"step-{step:08d}-{number}.png", picture)

    return panel


def _write(path: Path, picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with atomic_path(path) as temporary:
        write_png(temporary, picture)
