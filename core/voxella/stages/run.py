"""The stages in order, each skipped when it is up to date.

Under a launcher every process comes through here. What one process does alone, rank 0 does while
the others wait; encoding, training and sampling are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from voxella.engine.ranks import Ranks
from voxella.engine.runtime import barrier, start_distributed
from voxella.errors import UserError
from voxella.progress import say
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder import train_autoencoder
from voxella.stages.autoencoder_model import WEIGHTS
from voxella.stages.encode import encode
from voxella.stages.folders import Folders
from voxella.stages.importing import import_for
from voxella.stages.preflight import check_encoders, check_training
from voxella.stages.prepare import prepare
from voxella.stages.sample import sample
from voxella.stages.train import train

__all__ = ["STAGES", "run_stages"]

# In order; the names are the command line's.
STAGES = ("import", "prepare", "train-autoencoder", "encode", "train", "sample")
_ALONE = frozenset({"import", "prepare", "train-autoencoder"})


def run_stages(
    recipe: Recipe,
    run: Path,
    *,
    until: str = "sample",
    stop_after: int | None = None,
    workers: int = 0,
) -> Folders:
    """Run every stage up to ``until``; what is up to date is left alone.

    Args:
        recipe: The experiment.
        run: The run folder.
        until: The last stage, one of :data:`STAGES`.
        stop_after: Stop training, with a checkpoint, when this step is done, and do no later stage.
        workers: Processes that prepare cases; 0 uses the machine's cores.

    Raises:
        UserError: What a stage refuses.
    """
    if until not in STAGES:
        raise UserError(f"there is no stage {until!r}", legal=", ".join(STAGES))
    if stop_after is not None and stop_after < 1:
        raise UserError(f"training cannot stop after step {stop_after}", legal="1 and more")
    ranks = Ranks.from_environment()
    # Before hours of preparation: what is wrong now will be wrong then.
    check_training(recipe, ranks)
    if STAGES.index(until) >= STAGES.index("encode"):
        check_encoders(recipe)
    folders = Folders.of(recipe, run)
    steps: dict[str, Callable[[], object]] = {
        "import": lambda: import_for(recipe, folders),
        "prepare": lambda: prepare(recipe, folders.dataset, folders.prepared, workers=workers),
        "train-autoencoder": lambda: _train_autoencoder(recipe, folders),
        "encode": lambda: _encode(recipe, folders, ranks),
        "train": lambda: train(recipe, folders.run, stop_after=stop_after),
        "sample": lambda: sample(recipe, folders.run),
    }
    start_distributed(ranks)
    for stage in STAGES[: STAGES.index(until) + 1]:
        if ranks.is_main:
            say(f"== {stage}")
        done = steps[stage]() if ranks.is_main or stage not in _ALONE else None
        barrier()
        if stage == "train" and done is None:
            say(
                f"training stopped after step {stop_after}; without --stop-after the same command "
                "continues",
                quiet=not ranks.is_main,
            )
            break
    return folders


def _train_autoencoder(recipe: Recipe, folders: Folders) -> None:
    if recipe.autoencoder_training is not None:
        train_autoencoder(recipe, folders.prepared, folders.autoencoder)


def _encode(recipe: Recipe, folders: Folders, ranks: Ranks) -> None:
    trained = folders.autoencoder if (folders.autoencoder / WEIGHTS).is_file() else None
    encode(
        recipe,
        folders.prepared,
        folders.dataset,
        folders.work,
        trained,
        rank=ranks.rank,
        world=ranks.world,
    )
