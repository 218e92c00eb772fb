"""The stages in order, each skipped when it is up to date.

Under a launcher every process comes through here. What one process does alone, rank 0 does while
the others wait; encoding, training, sampling and evaluating are shared.

What a run left and where, said at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from voxella.autoencoder.check import check_autoencoder
from voxella.autoencoder.load import WEIGHTS
from voxella.autoencoder.train import train_autoencoder
from voxella.cache.stage import encode
from voxella.case import Manifest
from voxella.case.texts import text_id
from voxella.check.conditions import check_training_conditions
from voxella.check.settings import CheckSettings
from voxella.check.tell import tell_quick_check
from voxella.check.training import (
    check_model,
    check_training_labels,
    check_training_reports,
    check_training_spacing,
)
from voxella.classification.examples import needs_samples, require_validation
from voxella.classification.stage import check_classify, classify, samples_folder, settings_of
from voxella.data.importing import import_for
from voxella.data.quarantine import quarantined
from voxella.data.reports import read_reports
from voxella.engine.runtime import barrier, start_distributed
from voxella.errors import UserError
from voxella.evaluation.networks import check_evaluation
from voxella.evaluation.stage import evaluate
from voxella.ldm.train import train
from voxella.pipeline.preflight import (
    check_encoders,
    check_sample_space,
    check_training,
    refuse_leaks,
)
from voxella.preparation.stage import check_prepare, prepare
from voxella.progress import say
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify
from voxella.recipe.model import Recipe
from voxella.sampling.prompt_files import check_prompts
from voxella.sampling.stage import cases_to_sample, sample
from voxella.workspace.folders import Folders
from voxella.workspace.lock import holding

__all__ = ["STAGES", "run_stages", "summarise"]

# In order; the names are the command line's.
STAGES = (
    *("import", "prepare", "train-autoencoder", "check-autoencoder"),
    *("encode", "train", "sample", "evaluate", "classify"),
)
_ALONE = frozenset({"import", "prepare", "check-autoencoder"})


def run_stages(
    recipe: Recipe,
    run: Path,
    *,
    until: str = "evaluate",
    stop_after: int | None = None,
    workers: int = 0,
    quarantine: bool | None = False,
) -> Folders:
    """Run every stage up to ``until``; what is up to date is left alone.

    Args:
        recipe: The experiment.
        run: The run folder.
        until: The last stage, one of :data:`STAGES`.
        stop_after: Stop training, with a checkpoint, when this step is done, and do no later stage.
        workers: Processes that prepare cases; 0 uses the machine's cores.
        quarantine: Leave out cases that cannot be prepared, see :func:`prepare`.

    Raises:
        UserError: What a stage refuses; or another command works in one of the folders.
    """
    if until not in STAGES:
        raise UserError(f"there is no stage {until!r}", legal=", ".join(STAGES))
    if stop_after is not None and stop_after < 1:
        raise UserError(f"training cannot stop after step {stop_after}", legal="1 and more")
    ranks = Ranks.from_environment()
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    # Before hours of preparation: what is wrong now will be wrong then.
    check_training(recipe, ranks)
    settings = settings_of(recipe.classify, recipe.name) if until == "classify" else None
    wanted = _wanted(until, settings)
    needs: frozenset[str] | None = None
    if "prepare" in wanted:
        check_prepare(recipe.prepare, workers)
    if "encode" in wanted:
        check_encoders(recipe)
    if "train" in wanted:
        needs = check_model(recipe)
    if "sample" in wanted:
        check_prompts(recipe, folders.model)
        if until in ("evaluate", "classify"):
            check_sample_space(recipe.sample.space, until)
    if "evaluate" in wanted:
        check_evaluation(recipe)
    if settings is not None:
        check_classify(recipe, ranks)
        if settings.samples is not None and settings.training_set != "real":
            samples_folder(settings, settings.samples)
    steps: dict[str, Callable[[], object]] = {
        "import": lambda: _import(recipe, folders, needs),
        "prepare": lambda: _prepare(recipe, folders, workers, quarantine, wanted),
        "train-autoencoder": lambda: (
            None
            if recipe.autoencoder_training is None
            else train_autoencoder(recipe, folders.prepared, folders.autoencoder)
        ),
        "check-autoencoder": lambda: check_autoencoder(
            recipe, folders.prepared, folders.autoencoder
        ),
        "encode": lambda: _encode(recipe, folders, ranks),
        # Of several trainings, --stop-after means the one that was asked for.
        "train": lambda: train(
            recipe, folders.run, stop_after=None if until == "classify" else stop_after
        ),
        "sample": lambda: sample(recipe, folders.run),
        "evaluate": lambda: evaluate(recipe, folders.run),
        "classify": lambda: classify(recipe, folders.run, stop_after=stop_after),
    }
    made = [] if recipe.data.dataset is not None else [folders.dataset]
    with holding(folders.run, folders.work, *made):
        _run(steps, wanted, ranks, stop_after)
    return folders


def _run(
    steps: Mapping[str, Callable[[], object]],
    wanted: list[str],
    ranks: Ranks,
    stop_after: int | None,
) -> None:
    start_distributed(ranks)
    for stage in wanted:
        if ranks.is_main:
            say(f"== {stage}")
        done = steps[stage]() if ranks.is_main or stage not in _ALONE else None
        barrier()
        if stage in ("train", "classify") and done is None:
            say(
                f"training stopped after step {stop_after}; without --stop-after the same command "
                "continues",
                quiet=not ranks.is_main,
            )
            break


def _wanted(until: str, settings: Classify | None) -> list[str]:
    """Return the stages up to ``until``; for a classifier those alone that its images come from."""
    stages = list(STAGES[: STAGES.index(until) + 1])
    if settings is None:
        return stages
    if needs_samples(settings):
        return [stage for stage in stages if stage != "evaluate"]
    return ["import", "prepare", "classify"]


def _import(recipe: Recipe, folders: Folders, needs: frozenset[str] | None) -> None:
    """Import; where a model is trained (``needs`` is known), look at what it learns from."""
    dataset = import_for(recipe.data, folders, recipe.name)
    if needs is not None:
        manifest = Manifest.read(dataset)
        check_training_labels(recipe.loss, manifest, needs, name=recipe.name)
        check_training_reports(recipe.text, manifest, name=recipe.name)
        check_training_spacing(recipe.vectors, recipe.data.sequences[0], manifest, name=recipe.name)
        check_training_conditions(recipe.conditions, manifest, name=recipe.name)


def _prepare(
    recipe: Recipe, folders: Folders, workers: int, quarantine: bool | None, wanted: list[str]
) -> None:
    tell_quick_check(folders.dataset, CheckSettings.of(recipe.data, recipe.prepare))
    prepared = prepare(
        recipe, folders.dataset, folders.prepared, workers=workers, quarantine=quarantine
    )
    if recipe.text is not None:
        # Before an autoencoder is trained: a report that cannot be read now cannot be then.
        source = Manifest.read(folders.dataset)
        texts = read_reports(source, quarantined(folders.prepared))
        told = [text_id(case.id, name) for case in source for name in case.texts]
        if "train" in wanted and not all(map(texts.get, told)):
            check_training_reports(recipe.text, source, texts, name=recipe.name)
    if "train" in wanted or "classify" in wanted:
        refuse_leaks(prepared)
    if "classify" in wanted:
        require_validation(prepared)
    if "sample" in wanted and recipe.sample.prompts is None:
        cases_to_sample(recipe, prepared, quiet=False)


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


def summarise(folders: Folders, until: str) -> None:
    """Name every result that is there; on rank 0 only."""
    if not Ranks.from_environment().is_main:
        return
    results = {
        "data set": folders.dataset / "manifest.jsonl",
        "prepared cases": folders.prepared / "manifest.jsonl",
        "autoencoder": folders.autoencoder / "autoencoder.json",
        "reconstruction": folders.autoencoder / "reconstruction.png",
        "latents": folders.latents / "index.json",
        "text features": folders.text / "index.json",
        "losses": folders.run / "train" / "log.jsonl",
        "TensorBoard": folders.run / "tensorboard",
        "model": folders.model / "model.json",
        "volumes": folders.samples / "manifest.jsonl",
        "montage": folders.samples / "montage.png",
        "metrics": folders.evaluation / "metrics.json",
    }
    say(f"done: {until}")
    for name, path in results.items():
        if path.exists():
            say(f"  {name:15} {path}")
