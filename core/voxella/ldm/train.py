"""The train stage: caches in, checkpoints and an exported model out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cache.text import TextCache
from voxella.case import Case
from voxella.case.texts import ANY
from voxella.engine.checkpoints import Checkpoints, Provenance
from voxella.engine.order import DataOrder
from voxella.engine.parameters import print_trained
from voxella.engine.precision import autocast_dtype
from voxella.engine.processor.block import block_here
from voxella.engine.processor.guard import reduced_precision
from voxella.engine.runtime import barrier, broadcast_object, start_distributed
from voxella.engine.settings import deciding, deepspeed_config
from voxella.engine.sharding import zero_stage
from voxella.engine.train import Training, train_loop
from voxella.files import make_folder, write_text_atomic
from voxella.hashing import sha256_json
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.build import LatentDiffusion, build_model, initial_weights
from voxella.ldm.conditions import refuse_spared, refuse_values
from voxella.ldm.export import facts_sha256, is_whole
from voxella.ldm.generate import GenerationSettings
from voxella.ldm.learning import few_cases
from voxella.ldm.monitor import Monitor
from voxella.ldm.panels import make_panel
from voxella.ldm.read_start import read_start
from voxella.ldm.scale import Scale, exact_scale, scale_of_draws
from voxella.ldm.snapshots.store import averaging
from voxella.ldm.sources import open_features, open_latents, training_cases
from voxella.ldm.start import Start, begin, deciding_start
from voxella.ldm.train_export import export
from voxella.ldm.validation import held_out_validation
from voxella.observers.dispatch import ObserverSet
from voxella.ranks import Ranks
from voxella.recipe.load import dump_recipe
from voxella.recipe.model import Init, Latent, Recipe
from voxella.terminal import complain, print_line
from voxella.workspace.changes import keep_inputs, refuse_changed
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["latent_scale", "train"]


def train(recipe: Recipe, run: Path, *, stop_after: int | None = None) -> Path | None:
    """Train a recipe's model and export it; every process of the job calls this.

    Args:
        recipe: The experiment.
        run: The run folder; its caches must exist (``voxella encode``).
        stop_after: Stop, with a checkpoint, when this step is done.

    Returns:
        The exported model folder, or None when stopped before the end.

    Raises:
        UserError: Caches are missing or do not fit; the loss is not finite; the checkpoint in the
            run folder belongs to another recipe.
    """
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    cases = training_cases(folders)
    refuse_values(recipe.conditions, cases.values())
    refuse_spared(recipe.dropout.spared, cases.values())
    latents = open_latents(AutoencoderPlan.of(recipe), folders, ranks)
    latents.require(cases)
    text = open_features(recipe.text, folders, cases, recipe.seed)
    record = StageRecord(folders.run / "train", "train", _inputs(recipe, latents.key, text, cases))
    if broadcast_object(record.is_current() and is_whole(folders.model, record.facts)):
        return folders.model

    deepspeed_config(recipe.deepspeed, world=ranks.world, device=ranks.device)
    start = _start(recipe.init, partial(build_model, recipe), ranks)
    model = build_model(recipe)
    if text is not None:
        model.null_text = text.empty.float()[None]
    builder = LatentBatchBuilder(BatchSettings.of(recipe), cases, latents, text, scale=1.0)
    batch_size = int(recipe.deepspeed["train_batch_size"])
    passes = recipe.autoencoder.passes(recipe.data.sequences)
    model.latent_scale = latent_scale(recipe.latent, builder, batch_size, passes)
    builder = replace(builder, scale=model.latent_scale)
    place, keep = folders.run / "checkpoints", recipe.train.keep_checkpoints
    block = block_here(recipe.deepspeed, ranks, place)
    stage = zero_stage(block)
    provenance = Provenance(record.hash, ranks.world, stage, model.latent_scale)
    checkpoints = Checkpoints(place, keep=keep, ranks=ranks, zero_stage=stage)
    if checkpoints.complete():
        refuse_changed(record, run=folders.run, work=folders.work)
    # Before this run's recipe takes the place of the other's.
    fresh = checkpoints.newest(provenance) is None
    begin(model, start, recipe.init, recipe.lora, seed=recipe.seed, loads=fresh)
    start = None if start is None else start.without_tensors()
    barrier()
    if ranks.is_main:
        make_folder(folders.run)
        record.invalidate()
        keep_inputs(record)
        write_text_atomic(folders.run / "recipe.yaml", dump_recipe(recipe))
    observers = ObserverSet(recipe.observers, rank=ranks.rank)
    panel = validation = None
    if recipe.train.panel_every:
        generation, plan = GenerationSettings.of(recipe), AutoencoderPlan.of(recipe)
        steps = recipe.train.panel_steps
        panel = make_panel(steps, generation, plan, folders, builder, ranks, observers)
    if recipe.train.validate_every:
        validation = held_out_validation(recipe.deepspeed, folders, builder, ranks)
    training = Training(
        recipe=recipe,
        stage="train",
        run_dir=folders.run,
        ranks=ranks,
        seed=recipe.seed,
        length=recipe.train,
        optimizer=recipe.optimizer,
        deepspeed=block,
        model=model,
        builder=builder,
        monitor=Monitor(ranks, recipe.diffusion.steps, class_weight=recipe.loss.class_weight),
        provenance=provenance,
        checkpoints=checkpoints,
        observers=observers,
        panel=panel,
        validation=validation,
        stop_after=stop_after,
        average=averaging(recipe.train.snapshots, folders.run, ranks, fresh=fresh),
    )
    print_trained(model, recipe.optimizer, quiet=not ranks.is_main)
    if ranks.is_main and (warning := few_cases(len(cases), batch_size)) is not None:
        complain(warning)
    status = "failed"
    stopped = stop_after is not None and stop_after < training.total_steps
    try:
        reduced = autocast_dtype(block) is not None
        with reduced_precision(ranks.device, reduced=reduced):
            engine, ema = train_loop(training)
        status = "interrupted" if stopped else "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        observers.run_end(status)
    if stopped:
        return None
    export(folders, training, builder, engine, ema, start)
    if ranks.is_main:
        record.complete(
            steps=training.total_steps,
            latent_scale=model.latent_scale,
            config_sha256=facts_sha256(folders.model),
        )
    barrier()
    return folders.model


def _start(init: Init | None, build: Callable[[], LatentDiffusion], ranks: Ranks) -> Start | None:
    """Read what training starts from and print how it fits, nothing of the model allocated."""
    if init is None or init.path is None:
        return None
    try:
        with torch.device("meta"):
            shapes = build()
    except (NotImplementedError, RuntimeError):
        shapes = build()  # a plugin that reads a weight while it is built
    start = read_start(init, shapes)
    for line in start.lines() if start is not None else ():
        print_line(line, quiet=not ranks.is_main)
    return start


def latent_scale(
    latent: Latent, builder: LatentBatchBuilder, batch_size: int, passes: int = 1
) -> Scale:
    """Return the factor on latents: a statistic of the training set, the same on every process.

    ``exact`` is of what is learnt from: means where ``latent.draw`` is ``mean``, else draws.
    ``first_batch`` is paper mode: 1/std of the first batch's draws. The released code takes each
    process's own shuffled batch, and takes it anew when it resumes; here it is the first GLOBAL
    batch of a fixed order.
    """
    wanted = latent.scale
    if wanted == "exact":
        return exact_scale(latent, passes, builder.latents.statistics)
    if wanted == "first_batch":
        seed = builder.settings.seed
        first = DataOrder(list(builder.cases), seed=seed, batch_size=batch_size).step(0)
        batch = builder.make(first)
        return scale_of_draws(latent, passes, batch.latents, batch.present)
    return float(wanted)


def _inputs(
    recipe: Recipe, latents_key: str, text: TextCache | None, cases: dict[str, Case]
) -> dict[str, Any]:
    """Return what decides the trained weights; sampling and observers do not."""
    wanted = recipe.fingerprint_data()
    decides = (
        *("seed", "latent", "conditioner", "backbone", "vectors"),
        *("diffusion", "loss", "dropout", "optimizer"),
    )
    # Snapshots decide no weight, but a training without them has none to go on from.
    lengths = ("epochs", "steps", "ema_decay", "snapshots")
    length = {key: value for key, value in wanted["train"].items() if key in lengths}
    # How latents were made, in windows and of which variations, is part of their own key.
    for name in ("tiling", "variations", "augment"):
        wanted["latent"].pop(name)
    known = sorted((case.id, case.label, case.extra.get("spacing_mm")) for case in cases.values())
    # Nothing of it where there are no conditions: trainings from before are those without.
    conditions = {
        name: {case.id: case.conditions.get(name) for case in cases.values()}
        for name in recipe.conditions
    }
    told: dict[str, Any] = {} if recipe.text_source == ANY else {"text_source": recipe.text_source}
    if spared := recipe.dropout.spared:
        values = {i: [case.conditions.get(n) for n in sorted(spared)] for i, case in cases.items()}
        told["spared"] = sha256_json(values)
    if conditions:
        told["conditions"] = [wanted["conditions"], sha256_json(conditions)]
    told |= deciding_start(recipe.init, recipe.lora)
    starts = initial_weights(recipe.backbone, recipe.conditioner)
    for block in starts:  # what the files hold decides, not where they lie
        del wanted[block]["weights"]
    return {
        **{key: wanted[key] for key in decides},
        "train": length,
        "deepspeed": deciding(recipe.deepspeed),
        "classes": recipe.data.classes,
        "latents": latents_key,
        "text": text.key if text else None,
        "cases": sha256_json(known),
        **told,
        **({"initial_weights": starts} if starts else {}),
    }
