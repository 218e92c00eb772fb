"""`voxella study`: the recipes of a table one after the other, then the table and its verdicts.

A recipe that cannot go on is reported and the others run. Killed and started again, every stage
that is complete says so and is left alone.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from voxella.check.training import check_model
from voxella.classification.stage import check_classify, classify
from voxella.engine.runtime import barrier, broadcast_object, start_distributed
from voxella.errors import UserError
from voxella.evaluation.networks import check_evaluation
from voxella.evaluation.stage import evaluate
from voxella.machine import raise_if_machine
from voxella.metrics.estimate import Estimate
from voxella.pipeline.preflight import check_encoders, check_sample_space, check_training
from voxella.pipeline.run import run_stages
from voxella.preparation.stage import check_prepare
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.sampling.prompt_files import check_prompts
from voxella.sampling.prompt_values import PromptRules
from voxella.study.cases import Sides, StudyCases
from voxella.study.claims import Comparison, comparisons
from voxella.study.plan import Plan, Step
from voxella.study.pooled import Row, measured_of, rows_of
from voxella.study.results import read_result
from voxella.study.table import Filled, fill
from voxella.study.written import write_tables
from voxella.workspace.folders import Folders
from voxella.workspace.lock import holding

__all__ = ["problems_of", "run_study", "tables_of", "write_study"]


def run_study(
    plan: Plan,
    *,
    only: tuple[str, ...] = (),
    workers: int = 0,
    quarantine: bool | None = None,
    each_seed: bool = False,
) -> dict[str, str]:
    """Run every recipe of a study and write its tables; every process of the job calls this.

    Args:
        plan: From :func:`voxella.study.plan.make_plan`.
        only: Names of the recipes, or of trainings, to run; empty: all. The tables hold what all of
            them have.
        workers: Processes that prepare cases; 0: all cores.
        quarantine: See :func:`voxella.preparation.stage.prepare`.
        each_seed: Show every training in ``table.md``.

    Returns:
        What stopped a recipe, by its name.

    Raises:
        UserError: ``only`` names a recipe that is not there; or, where several processes run, what
            stopped one of them: the others cannot know how far it came.
    """
    ranks = Ranks.from_environment()
    chosen = _chosen(plan, only)
    with holding(plan.folder):
        failures = _run_all(plan, chosen, ranks, partial(_run_step, workers, quarantine))
        write_study(plan, failures, ranks, each_seed=each_seed)
    return failures


def _run_all(
    plan: Plan, chosen: Sequence[Step], ranks: Ranks, run: Callable[[Step], None]
) -> dict[str, str]:
    start_distributed(ranks)
    failures = problems_of(chosen, ranks)
    for name, why in failures.items():
        print_line(f"== {name}: cannot run: {why}", quiet=not ranks.is_main)
    ready = [step for step in chosen if step.name not in failures]
    for number, step in enumerate(ready, start=1):
        print_line(
            f"== study {plan.name}, {number} of {len(ready)}: {step.name}", quiet=not ranks.is_main
        )
        stopped = _stopped_by(partial(run, step), ranks)
        if stopped is not None:
            failures[step.name] = stopped
            print_line(f"== {step.name} failed: {stopped}", quiet=not ranks.is_main)
        _give_back_memory()
    return failures


def write_study(
    plan: Plan, failures: dict[str, str], ranks: Ranks, *, each_seed: bool = False
) -> None:
    """Write the tables of what the runs have measured so far; collective, rank 0 writes."""
    start_distributed(ranks)
    tables = tables_of(plan, failures, ranks)
    if ranks.is_main:
        for path in write_tables(plan, tables, each_seed=each_seed):
            print_line(f"study: {path}")
    barrier()


def tables_of(plan: Plan, failures: dict[str, str], ranks: Ranks) -> list[Filled]:
    """Fill a study's tables with what its runs have measured so far; collective.

    Args:
        plan: The study.
        failures: What stopped a recipe, by name.
        ranks: Who share what takes long; rank 0 fills the tables.

    Returns:
        The tables; none on the other processes.
    """
    results = {step.name: read_result(step, failures.get(step.name)) for step in plan.steps}
    results = broadcast_object(results)
    cases = StudyCases(plan, ranks.device)
    filled = [(table, rows_of(plan, table, results)) for table in plan.tables]
    every = [(c, rows) for table, rows in filled for c in comparisons(table.study)]
    cases.share_draws((c for c, rows in every if all(_sides(c, rows))), ranks)
    if not ranks.is_main:
        return []
    return [fill(table, rows, partial(_difference, cases, rows)) for table, rows in filled]


def _difference(
    cases: StudyCases, rows: Mapping[str, Row], comparison: Comparison
) -> Estimate | None:
    return cases.difference(comparison, _sides(comparison, rows))


def _sides(comparison: Comparison, rows: Mapping[str, Row]) -> Sides:
    """Return the trainings of either side that have a number, whose cases will be compared."""
    left, right = (
        [result.step.name for result in measured_of(rows[name], comparison.metric)]
        for name in (comparison.left, comparison.right)
    )
    return left, right


def _chosen(plan: Plan, only: tuple[str, ...]) -> list[Step]:
    unknown = sorted({*only} - {name for step in plan.steps for name in (step.name, step.row)})
    if unknown:
        raise UserError(
            f"--only {', '.join(unknown)}: the study has no such recipe",
            expected=", ".join(step.name for step in plan.steps),
        )
    return [step for step in plan.steps if not only or {step.name, step.row} & {*only}]


def problems_of(steps: Sequence[Step], ranks: Ranks) -> dict[str, str]:
    """Return what is known to be wrong before the first stage, by recipe.

    Args:
        steps: Of the plan.
        ranks: The processes that would run them.
    """
    by_row: dict[str, str] = {}
    for step in steps:
        # Trainings of one recipe differ in nothing that is looked at.
        if step.row not in by_row:
            by_row[step.row] = "\n".join(_problems(step, ranks))
    return {step.name: by_row[step.row] for step in steps if by_row[step.row]}


def _problems(step: Step, ranks: Ranks) -> Iterator[str]:
    for check in _checks(step, ranks):
        try:
            check()
        except UserError as problem:
            yield str(problem)


def _checks(step: Step, ranks: Ranks) -> list[Callable[[], object]]:
    recipe = step.recipe
    if step.until == "classify":
        return [lambda: check_prepare(recipe.prepare, 0), lambda: check_classify(recipe, ranks)]
    folders = Folders.of(step.folder, recipe.workspace, recipe.data.dataset)
    training = recipe.autoencoder_training
    if step.until == "check-autoencoder":
        trains = training is not None
        return [
            lambda: check_prepare(recipe.prepare, 0),
            lambda: check_encoders(recipe.autoencoder, None, trains=trains),
        ]
    checks: list[Callable[[], object]] = [
        lambda: check_prepare(recipe.prepare, 0),
        lambda: check_prompts(recipe.sample, PromptRules.of(recipe), folders.model),
        lambda: check_sample_space(recipe.sample.space, "the study"),
        lambda: check_training(recipe.deepspeed, training, recipe.diffusion, recipe.sample, ranks),
        lambda: check_encoders(recipe.autoencoder, recipe.text, trains=training is not None),
        lambda: check_model(recipe),
    ]
    return checks if step.until == "sample" else [*checks, lambda: check_evaluation(recipe)]


def _run_step(workers: int, quarantine: bool | None, step: Step) -> None:
    """Take one recipe to its last stage; what is up to date is left alone."""
    first = {"classify": "prepare", "evaluate": "sample"}.get(step.until, step.until)
    run_stages(step.recipe, step.folder, until=first, workers=workers, quarantine=quarantine)
    if step.until == "evaluate":
        evaluate(step.recipe, step.folder)
    elif step.until == "classify":
        classify(step.recipe, step.folder)


def _stopped_by(work: Callable[[], None], ranks: Ranks) -> str | None:
    """Do the work of one recipe; return what stopped it, or None."""
    try:
        work()
    except UserError as error:
        raise_if_machine(error)
        if ranks.world > 1:
            raise
        return str(error)
    except Exception as error:
        # The next recipe would meet the same full disk.
        raise_if_machine(error)
        if ranks.world > 1:
            raise
        return _unforeseen(error)
    return None


def _unforeseen(error: Exception) -> str:
    """Say where an error came up, without its words: they may quote what was being read."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno} ({frame.name})"
    return f"{type(error).__name__} in {place}; voxella run of this recipe shows all of it"


def _give_back_memory() -> None:
    """Drop the networks of one recipe before the next builds its own."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
