"""The end of training: the exported model folder."""

from __future__ import annotations

from typing import Any

import torch

from voxella.autoencoder.load import WEIGHTS
from voxella.case import Case, Manifest
from voxella.engine.ema import Ema, Masters
from voxella.engine.runtime import gather_state
from voxella.engine.train import Training
from voxella.ldm.adapters import apart, merged
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.conditions import seen
from voxella.ldm.model_folder.data_counts import counted
from voxella.ldm.model_folder.facts import ModelFacts
from voxella.ldm.model_folder.folder import save_model
from voxella.ldm.model_folder.licences import licences_of
from voxella.ldm.start import Start
from voxella.recipe.load import dump_recipe
from voxella.workspace.folders import Folders

__all__ = ["export"]


def export(
    folders: Folders,
    training: Training,
    builder: LatentBatchBuilder,
    engine: Any,  # noqa: ANN401 - DeepSpeed ships no types
    ema: Ema | None,
    start: Start | None = None,
) -> None:
    """Write ``RUN/model`` from the averaged weights, adapters merged or apart; collective."""
    model: LatentDiffusion = engine.module
    whole = Masters(engine).whole if ema is None else ema.whole
    state = gather_state(model, keep=training.ranks.is_main, whole=whole)
    if not training.ranks.is_main:
        return
    recipe, text, scale = training.recipe, builder.text, model.latent_scale
    lora, base_sha256 = recipe.lora, ""
    if lora is not None and lora.export == "apart" and start is not None:
        state, base_sha256 = apart(state, model, start.names), start.sha256
    elif lora is not None:
        state = merged(state, lora)
    parts = {
        "backbone": recipe.backbone,
        "conditioner": recipe.conditioner,
        "autoencoder": recipe.autoencoder,
        "text_encoder": None if recipe.text is None else recipe.text.encoder,
    }
    facts = ModelFacts(
        latent_scale=list(scale) if isinstance(scale, tuple) else scale,
        step=training.total_steps,
        averaged=ema is not None,
        classes=list(builder.settings.classes),
        vectors=list(model.vectors),
        spacing_mm=_spacing_range(builder.cases),
        text={"width": text.width, "encoder": text.fingerprint} if text else None,
        autoencoder_fingerprint=builder.latents.fingerprint,
        conditions=seen(builder.settings.conditions, builder.cases.values()),
        base_sha256=base_sha256,
        licences=licences_of(parts) | dict({} if start is None else start.licences),
        data=counted(Manifest.read(folders.prepared), recipe.text_source),
    )
    # From the cache: the model's own has been rounded where precision is cast.
    null_text = None if text is None else text.empty.float()[None]
    # What was trained in place is nowhere else; a file of the recipe is its owner's to give.
    trained = folders.autoencoder / WEIGHTS
    inside = recipe.autoencoder_training is not None and trained.is_file()
    save_model(
        folders.model,
        state,
        dump_recipe(recipe),
        facts,
        null_text,
        autoencoder=trained if inside else None,
    )


def _spacing_range(cases: dict[str, Case]) -> dict[str, list[float]] | None:
    known = [case.extra["spacing_mm"] for case in cases.values() if "spacing_mm" in case.extra]
    if not known:
        return None
    table = torch.tensor(known, dtype=torch.float64)
    return {"min": table.min(dim=0).values.tolist(), "max": table.max(dim=0).values.tolist()}
