"""`voxella train-autoencoder`: from random or given weights, on the prepared training split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from voxella.autoencoder.load import WEIGHTS, LoadedAutoencoder, choose_device, fingerprint
from voxella.autoencoder.report import evaluate_autoencoder, write_panel
from voxella.autoencoder.tiling.choice import tiled
from voxella.autoencoder.trainer import OnStep, Trainer
from voxella.data.volumes import PreparedVolumes
from voxella.engine.checkpoint_store import CheckpointStore
from voxella.errors import UserError
from voxella.files import atomic_path, remove, sha256_file, write_json_atomic
from voxella.progress import say
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

__all__ = ["CHECKPOINTS", "FACTS", "PANEL", "train_autoencoder"]

CHECKPOINTS = "checkpoints"
FACTS = "autoencoder.json"
PANEL = "reconstruction.png"
_KEPT = 2


def train_autoencoder(
    recipe: Recipe,
    prepared: Path,
    out: Path,
    *,
    device: str = "auto",
    checkpoint_every: int = 100,
    on_step: OnStep | None = None,
) -> Path:
    """Train, measure and export the recipe's autoencoder; go on where a killed run stopped.

    Where the recipe's autoencoder block names a weights file, training starts from it. One process
    does all of it.

    Args:
        recipe: With an ``autoencoder_training`` block.
        prepared: The prepared data set.
        out: Receives ``model.safetensors``, ``autoencoder.json``, ``reconstruction.png``.
        device: ``auto``, ``cpu``, ``cuda``...
        checkpoint_every: Steps between checkpoints: what a kill can cost at most.
        on_step: Called after each step with its number, from 1, and its losses.

    Returns:
        ``out``.

    Raises:
        UserError: The recipe has no such block, the volumes or patches do not suit the
            autoencoder, a loss is not finite, or the weights to start from are its own result.
    """
    training = recipe.autoencoder_training
    if training is None:
        raise UserError(
            f"recipe {recipe.name} trains no autoencoder",
            remedy="add an `autoencoder_training:` block, or go on with voxella encode RECIPE",
        )
    _refuse_own_result(recipe, out / WEIGHTS)
    volumes = PreparedVolumes(
        prepared, sequences=recipe.data.sequences, spatial_dims=len(recipe.latent.size)
    )
    trainer = Trainer(recipe, training, volumes, choose_device(device))
    record = StageRecord(out, "train-autoencoder", trainer.inputs)
    if record.is_current() and (out / WEIGHTS).is_file():
        say(f"train-autoencoder: up to date ({out})")
        return out
    if (given := recipe.autoencoder.arguments.get("weights")) is not None:
        say(f"train-autoencoder: fine-tuning {given}")
    record.invalidate()
    # Weights of other settings must not pass for these while the training is under way.
    (out / WEIGHTS).unlink(missing_ok=True)
    # One process does all of it, whatever job it is part of.
    store = CheckpointStore(out / CHECKPOINTS, keep=_KEPT, ranks=Ranks(0, 0, 1))
    trainer.resume(store, record.hash)
    trainer.train(store, record.hash, checkpoint_every, on_step)
    record.complete([WEIGHTS, FACTS], **_export(trainer, out))
    # The weights are exported and the stage is complete: nothing will resume from it.
    remove(out / CHECKPOINTS)
    return out


def _refuse_own_result(recipe: Recipe, result: Path) -> None:
    """Refuse to fine-tune the file that this run writes: it is removed when training starts."""
    given = recipe.autoencoder.arguments.get("weights")
    if given is not None and Path(given).resolve() == result.resolve():
        raise UserError(
            f"autoencoder.weights names the file that train-autoencoder writes, {result}",
            remedy="copy it elsewhere first, or train into another run with --out",
        )


def _export(trainer: Trainer, out: Path) -> dict[str, Any]:
    """Write weights, facts and picture; return the facts worth keeping in the stage's record."""
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in trainer.module.state_dict().items()
    }
    with atomic_path(out / WEIGHTS) as temporary:
        save_file(weights, temporary)
    trainer.module.eval()
    mark = fingerprint(trainer.recipe, trainer.module)
    # A training on patches may have no memory for whole volumes.
    coder = LoadedAutoencoder(trainer.model, mark)
    model = tiled(coder, trainer.recipe, trainer.device, alone=True)
    settings = trainer.recipe.autoencoder_check
    report = evaluate_autoencoder(model, trainer.volumes, device=trainer.device, settings=settings)
    say(str(report))
    write_panel(out / PANEL, report, model, trainer.volumes, trainer.device)
    facts = {
        "sha256": sha256_file(out / WEIGHTS),
        "fingerprint": mark,
        "steps": trainer.step,
        "losses": trainer.history,
        "reconstruction": report.as_json(),
    }
    write_json_atomic(out / FACTS, facts)
    say(f"autoencoder: {out / WEIGHTS}, picture {out / PANEL}")
    return facts | {"losses": trainer.history[-1:]}
