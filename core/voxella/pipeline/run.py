"""The stages in order, each skipped when it is up to date.

Under a launcher every process comes through here. What one process does alone, rank 0 does while
the others wait; encoding, training, sampling and evaluating are shared.

What a run left and where, said at its end.
"""

from __future__ import annotations

from pathlib import Path

from voxella.autoencoder.load import WEIGHTS
from voxella.autoencoder.settings import check_files
from voxella.check.training import check_model
from voxella.classification.examples import needs_samples
from voxella.classification.stage import check_classify, samples_folder, settings_of
from voxella.engine.runtime import barrier, start_distributed
from voxella.errors import UserError
from voxella.evaluation.networks import check_evaluation
from voxella.ldm.export import FACTS
from voxella.pipeline import steps
from voxella.pipeline.preflight import check_encoders, check_sample_space, check_training
from voxella.pipeline.stages import STAGES, stage_names
from voxella.preparation.stage import check_prepare
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify
from voxella.recipe.model import Recipe
from voxella.recipe.start import check_init
from voxella.sampling.prompt_files import check_prompts
from voxella.sampling.prompt_values import PromptRules
from voxella.workspace.folders import Folders
from voxella.workspace.lock import holding

__all__ = ["run_stages", "summarise"]


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
        until: The last stage, a name of :data:`voxella.pipeline.stages.STAGES`.
        stop_after: Stop training, with a checkpoint, when this step is done, and do no later stage.
        workers: Processes that prepare cases; 0 uses the machine's cores.
        quarantine: Leave out cases that cannot be prepared, see :func:`prepare`.

    Raises:
        UserError: What a stage refuses; or another command works in one of the folders.
    """
    if until not in stage_names():
        raise UserError(f"there is no stage {until!r}", expected=", ".join(stage_names()))
    if stop_after is not None and stop_after < 1:
        raise UserError(f"training cannot stop after step {stop_after}", expected="1 and more")
    ranks = Ranks.from_environment()
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    # Before hours of preparation: what is wrong now will be wrong then.
    training = recipe.autoencoder_training
    settings = settings_of(recipe.classify, recipe.name) if until == "classify" else None
    wanted = _wanted(until, settings)
    # A batch has to divide among the processes that train, not among those that encode or sample.
    trained = (folders.autoencoder / WEIGHTS).is_file(), (folders.model / FACTS).is_file()
    check_training(
        None if trained[1] or "train" not in wanted else recipe.deepspeed,
        None if trained[0] or "train-autoencoder" not in wanted else training,
        recipe.diffusion,
        recipe.sample,
        ranks,
    )
    needs: frozenset[str] | None = None
    if "prepare" in wanted:
        check_prepare(recipe.prepare, workers)
    if "train-autoencoder" in wanted and training is not None:
        check_files(training)
    if "encode" in wanted:
        check_encoders(recipe.autoencoder, recipe.text, trains=training is not None)
    if "train" in wanted:
        if recipe.init is not None:
            check_init(recipe.init)
        needs = check_model(recipe)
    if "sample" in wanted:
        check_prompts(recipe.sample, PromptRules.of(recipe), folders.model)
        if until in ("evaluate", "classify"):
            check_sample_space(recipe.sample.space, until)
    if "evaluate" in wanted:
        check_evaluation(recipe)
    if settings is not None:
        check_classify(recipe, ranks)
        if settings.samples is not None and settings.training_set != "real":
            samples_folder(settings, settings.samples)
    job = steps.Job(recipe, folders, ranks, tuple(wanted), needs, stop_after, workers, quarantine)
    made = [] if recipe.data.dataset is not None else [folders.dataset]
    with holding(folders.run, folders.work, *made):
        _run(job)
    return folders


def _run(job: steps.Job) -> None:
    start_distributed(job.ranks)
    for stage in (stage for stage in STAGES if stage.name in job.wanted):
        if job.ranks.is_main:
            print_line(f"== {stage.name}")
        work = getattr(steps, f"do_{stage.name.replace('-', '_')}")
        done = work(job) if job.ranks.is_main or not stage.alone else None
        barrier()
        if stage.stops and done is None:
            print_line(
                f"training stopped after step {job.stop_after}; without --stop-after the same "
                "command continues",
                quiet=not job.ranks.is_main,
            )
            break


def _wanted(until: str, settings: Classify | None) -> list[str]:
    """Return the stages up to ``until``; for a classifier those alone that its images come from."""
    stages = stage_names()[: stage_names().index(until) + 1]
    if settings is None:
        return stages
    if needs_samples(settings):
        return [stage for stage in stages if stage != "evaluate"]
    return ["import", "prepare", "classify"]


def summarise(folders: Folders, until: str) -> None:
    """Name every result that is there; on rank 0 only."""
    if not Ranks.from_environment().is_main:
        return
    print_line(f"done: {until}")
    for stage in STAGES:
        for name, place in stage.results:
            if (path := place(folders)).exists():
                print_line(f"  {name:15} {path}")
