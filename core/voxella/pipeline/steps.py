"""What each stage of a run does: ``do_NAME`` for every name of ``voxella.pipeline.stages``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxella.autoencoder.check import check_autoencoder
from voxella.autoencoder.closed_form import fit_autoencoder
from voxella.autoencoder.load import WEIGHTS, AutoencoderPlan
from voxella.autoencoder.train import train_autoencoder
from voxella.cache.stage import encode
from voxella.case import Manifest
from voxella.case.texts import text_id
from voxella.check.conditions import check_training_conditions
from voxella.check.printing import print_quick_check
from voxella.check.settings import CheckSettings
from voxella.check.training import (
    check_training_labels,
    check_training_reports,
    check_training_spacing,
)
from voxella.classification.examples import require_validation
from voxella.classification.stage import classify
from voxella.data.importing import import_for
from voxella.data.quarantine import quarantined
from voxella.data.reports import read_reports
from voxella.evaluation.stage import evaluate
from voxella.ldm.train import train
from voxella.pipeline.preflight import refuse_leaks
from voxella.preparation.stage import prepare
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.sampling.stage import cases_to_sample, sample
from voxella.workspace.folders import Folders

__all__ = [
    "Job",
    "do_check_autoencoder",
    "do_classify",
    "do_encode",
    "do_evaluate",
    "do_import",
    "do_prepare",
    "do_sample",
    "do_train",
    "do_train_autoencoder",
]


@dataclass(frozen=True)
class Job:
    """One call of the command line: an experiment, its folders, and how far it goes.

    Attributes:
        recipe: The experiment.
        folders: Of the run.
        ranks: This process.
        wanted: Names of all stages of the call.
        needs: What the model's conditioner is told; None where no model is trained.
        stop_after: Stop training after this step; None: train to the end.
        workers: Processes that prepare cases; 0 uses the machine's cores.
        quarantine: See :func:`voxella.preparation.stage.prepare`.
    """

    recipe: Recipe
    folders: Folders
    ranks: Ranks
    wanted: tuple[str, ...]
    needs: frozenset[str] | None = None
    stop_after: int | None = None
    workers: int = 0
    quarantine: bool | None = False


def do_import(job: Job) -> None:
    """Import; where a model is trained, look at what it learns from."""
    recipe = job.recipe
    dataset = import_for(recipe.data, job.folders, recipe.name)
    if job.needs is not None:
        manifest = Manifest.read(dataset)
        check_training_labels(recipe.loss, manifest, job.needs, name=recipe.name)
        check_training_reports(recipe.text, manifest, name=recipe.name)
        check_training_spacing(recipe.vectors, recipe.data.sequences[0], manifest, name=recipe.name)
        check_training_conditions(recipe.conditions, manifest, name=recipe.name)


def do_prepare(job: Job) -> None:
    """Prepare, and refuse what later stages could only fail on."""
    recipe, folders, wanted = job.recipe, job.folders, job.wanted
    print_quick_check(folders.dataset, CheckSettings.of(recipe.data, recipe.prepare))
    prepared = prepare(
        recipe,
        folders.dataset,
        folders.prepared,
        workers=job.workers,
        quarantine=job.quarantine,
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
        cases_to_sample(recipe.sample, prepared, quiet=False)


def do_train_autoencoder(job: Job) -> None:
    """Train the autoencoder, where the recipe says how."""
    recipe, places = job.recipe, (job.folders.prepared, job.folders.autoencoder)
    if recipe.autoencoder_training is None:
        return
    if fit_autoencoder(AutoencoderPlan.of(recipe), recipe.autoencoder_check, *places) is None:
        train_autoencoder(recipe, *places)


def do_check_autoencoder(job: Job) -> None:
    """Measure the autoencoder."""
    check_autoencoder(job.recipe, job.folders.prepared, job.folders.autoencoder)


def do_encode(job: Job) -> None:
    """Fill the caches, with the autoencoder that was trained here where one was."""
    folders = job.folders
    trained = folders.autoencoder if (folders.autoencoder / WEIGHTS).is_file() else None
    encode(
        job.recipe,
        folders.prepared,
        folders.dataset,
        folders.work,
        trained,
        rank=job.ranks.rank,
        world=job.ranks.world,
    )


def do_train(job: Job) -> Path | None:
    """Train the diffusion model; None when it was stopped."""
    # Of several trainings, --stop-after means the one that was asked for.
    stop_after = None if job.wanted[-1] == "classify" else job.stop_after
    return train(job.recipe, job.folders.run, stop_after=stop_after)


def do_sample(job: Job) -> None:
    """Generate volumes."""
    sample(job.recipe, job.folders.run)


def do_evaluate(job: Job) -> None:
    """Measure them."""
    evaluate(job.recipe, job.folders.run)


def do_classify(job: Job) -> Path | None:
    """Train the classifiers; None when one was stopped."""
    return classify(job.recipe, job.folders.run, stop_after=job.stop_after)
