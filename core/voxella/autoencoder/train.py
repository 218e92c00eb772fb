"""The train-autoencoder stage: prepared volumes in, weights and their numbers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.adaptive import require_last_layer
from voxella.autoencoder.adversary import Adversary, AdversaryTraining, check_edges
from voxella.autoencoder.export import FACTS, export
from voxella.autoencoder.load import WEIGHTS, AutoencoderPlan, build_autoencoder, fingerprint
from voxella.autoencoder.lpips import PerceptualLoss
from voxella.autoencoder.patches import PatchBatchBuilder, PatchOrder
from voxella.autoencoder.settings import (
    check_files,
    check_settings,
    deciding_settings,
    engine_block,
    key_in_recipe,
    length,
    optimizer,
)
from voxella.autoencoder.task import AutoencoderMonitor, AutoencoderTask, autocast
from voxella.autoencoder.watch import HeldOut
from voxella.data.volumes import PreparedVolumes
from voxella.engine.checkpoints import Checkpoints, Provenance
from voxella.engine.ema import Masters
from voxella.engine.processor.block import block_here
from voxella.engine.processor.guard import reduced_precision
from voxella.engine.runtime import barrier, broadcast_object, gather_state, start_distributed
from voxella.engine.sharding import zero_stage
from voxella.engine.train import Training, train_loop
from voxella.errors import UserError
from voxella.files import make_folder, remove
from voxella.observers.dispatch import ObserverSet
from voxella.plugins.contracts import Autoencoder
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.model import AutoencoderTraining, Recipe
from voxella.workspace.changes import refuse_changed
from voxella.workspace.record import StageRecord
from voxella.workspace.state import RECORD

__all__ = ["CHECKPOINTS", "train_autoencoder"]

CHECKPOINTS = "checkpoints"
_KEPT = 2


def train_autoencoder(
    recipe: Recipe, prepared: Path, out: Path, *, stop_after: int | None = None
) -> Path | None:
    """Train, measure and export the recipe's autoencoder; go on where a killed run stopped.

    Every process of the job calls this. It starts from ``autoencoder.weights`` where there are any.

    Args:
        recipe: With an ``autoencoder_training`` block.
        prepared: The prepared data set.
        out: Receives ``model.safetensors``, ``autoencoder.json``, ``reconstruction.png`` and
            ``log.jsonl``; TensorBoard's files lie in ``tensorboard`` beside it.
        stop_after: Stop, with a checkpoint, when this step is done.

    Returns:
        ``out``, or None when stopped before the end.

    Raises:
        UserError: The recipe has no such block, a model was trained on another's latents, volumes
            or patches do not suit it, a loss is not finite, or it would start from its own result.
    """
    training = recipe.autoencoder_training
    if training is None:
        raise UserError(
            f"recipe {recipe.name} trains no autoencoder",
            remedy="add an `autoencoder_training:` block, or go on with voxella encode RECIPE",
        )
    out, ranks = Path(out).absolute(), Ranks.from_environment()
    start_distributed(ranks)
    check_files(training)
    plan = AutoencoderPlan.of(recipe)
    given = plan.component.arguments.get("weights")
    _refuse_own_result(given, out / WEIGHTS)
    volumes = _volumes(plan, prepared)
    model = build_autoencoder(plan)
    order = PatchOrder(training, volumes, model.factor, plan.seed)
    inputs = {
        "prepared": volumes.fingerprint,
        "initial_weights": fingerprint(plan.component, cast("nn.Module", model)),
        "training": deciding_settings(training),
        "whole_steps": order.whole_steps,
        "seed": plan.seed,
    }
    record = StageRecord(out, "train-autoencoder", inputs)
    if broadcast_object(record.is_current() and (out / WEIGHTS).is_file()):
        print_line(f"train-autoencoder: up to date ({out})", quiet=not ranks.is_main)
        return out
    check_settings(training, ranks)
    if (out.parent / "train" / RECORD).is_file():
        # Another autoencoder would make that training's caches, and itself, another's.
        refuse_changed(record, run=out.parent, work=None, named=key_in_recipe)
    if given is not None:
        print_line(f"train-autoencoder: fine-tuning {given}", quiet=not ranks.is_main)
    barrier()  # no process may still be reading the record
    run = _training(recipe, training, plan, model, volumes, order, record, ranks)
    if ranks.is_main:
        _begin(record, run.checkpoints)
    barrier()
    run.stop_after = stop_after
    stopped = stop_after is not None and stop_after < run.total_steps
    weights = _train(run, reduced=training.precision == "bf16", stopped=stopped)
    if stopped:
        return None
    if ranks.is_main:
        facts = export(plan, recipe.autoencoder_check, weights, volumes, out, ranks.device)
        record.complete([WEIGHTS, FACTS], **facts)
        # The weights are exported and the stage is complete: nothing will resume from it.
        remove(out / CHECKPOINTS)
    barrier()
    return out


def _volumes(plan: AutoencoderPlan, prepared: Path) -> PreparedVolumes:
    return PreparedVolumes(prepared, sequences=plan.sequences, spatial_dims=len(plan.latent.size))


def _refuse_own_result(given: Path | None, result: Path) -> None:
    """Refuse to fine-tune the file that this run writes: it is removed when training starts."""
    if given is not None and Path(given).resolve() == result.resolve():
        raise UserError(
            f"autoencoder.weights names the file that train-autoencoder writes, {result}",
            remedy="copy it elsewhere first, or train into another run with --out",
        )


def _begin(record: StageRecord, checkpoints: Checkpoints) -> None:
    """Take away what is of other settings: it must not pass for this training's."""
    make_folder(record.folder)
    record.invalidate()
    (record.folder / WEIGHTS).unlink(missing_ok=True)
    if checkpoints.are_of_another(record.hash):
        print_line("train-autoencoder: the checkpoint is of other settings or data; starting anew")
        remove(checkpoints.folder)


def _training(
    recipe: Recipe,
    training: AutoencoderTraining,
    plan: AutoencoderPlan,
    model: Autoencoder,
    volumes: PreparedVolumes,
    order: PatchOrder,
    record: StageRecord,
    ranks: Ranks,
) -> Training:
    """Return the training as the engine's task."""
    out, place = record.folder, record.folder / CHECKPOINTS
    block = block_here(engine_block(training, ranks.world), ranks, place)
    networks = autocast(training, ranks.device)
    second = _adversary(training, plan, model, order, networks, ranks, block)
    adversary = None if second is None else second.adversary
    perceptual = None
    if (seen := training.perceptual) is not None:
        perceptual = PerceptualLoss(seen, plan.channels, order.size, ranks.device)
    observers = ObserverSet(recipe.observers, rank=ranks.rank)
    watch = None
    if training.validate_every or training.panel_every:
        watch = HeldOut(
            # Its own: the training's are read by another thread.
            _volumes(plan, volumes.folder),
            count=recipe.autoencoder_check.cases,
            size=order.shape if order.whole_steps else order.size,
            ranks=ranks,
            observers=observers,
            folder=out / "panels",
            channels=plan.shown,
        )
    return Training(
        recipe=recipe,
        stage=out.name,
        run_dir=out.parent,
        ranks=ranks,
        seed=plan.seed,
        length=length(training, _KEPT),
        optimizer=optimizer(training),
        deepspeed=block,
        model=AutoencoderTask(model, training, networks, adversary, perceptual, plan.seed),
        builder=PatchBatchBuilder(volumes, plan.seed, model.latent_channels, model.factor),
        monitor=AutoencoderMonitor(ranks),
        provenance=Provenance(record.hash, ranks.world, zero_stage(block), 1.0),
        checkpoints=Checkpoints(place, keep=_KEPT, ranks=ranks, zero_stage=zero_stage(block)),
        observers=observers,
        panel=None if watch is None else watch.panel,
        validation=watch,
        second=second,
        rate=order.factor,
        rate_key="autoencoder_training.lr",
        own_order=order,
    )


def _adversary(
    training: AutoencoderTraining,
    plan: AutoencoderPlan,
    model: Autoencoder,
    order: PatchOrder,
    networks: Callable[[], torch.autocast],
    ranks: Ranks,
    block: Mapping[str, Any],
) -> AdversaryTraining | None:
    if (settings := training.adversarial) is None:
        return None
    check_edges(settings, order.size)
    if settings.adaptive:
        require_last_layer(plan.component.name, model)
    adversary = Adversary(
        settings,
        spatial_dims=len(order.shape),
        in_channels=plan.channels,
        lr=training.lr,
        betas=training.betas,
        seed=plan.seed,
        device=ranks.device,
    )
    return AdversaryTraining(
        adversary,
        ranks,
        rate=lambda step: training.lr * order.factor(step),
        clip_norm=float(block["gradient_clipping"] or 0.0),
        autocast=networks,
    )


def _train(run: Training, *, reduced: bool, stopped: bool) -> dict[str, Tensor]:
    """Run to the end and return the autoencoder's weights on rank 0; nothing elsewhere."""
    status = "failed"
    try:
        with reduced_precision(run.ranks.device, reduced=reduced):
            engine, ema = train_loop(run)
        status = "interrupted" if stopped else "finished"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        run.observers.run_end(status)
    whole = Masters(engine).whole if ema is None else ema.whole
    return gather_state(engine.module.autoencoder, keep=run.ranks.is_main, whole=whole)
