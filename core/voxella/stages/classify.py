"""Stage `classify`: a classifier trained on real or synthetic images, measured on real ones.

``classify/NAME/seed-K/`` holds ``log.jsonl``, ``validation.jsonl``, ``checkpoints/``,
``best.safetensors`` (the epoch that validation chose), ``predictions.jsonl`` and ``stage.json``;
``classify/NAME/`` the recipe, ``metrics.json`` and ``curves.json`` over all seeds. NAME is the
recipe's. Killed at any moment, the stage goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxella.case import Manifest
from voxella.classification.examples import Examples, select
from voxella.classification.predict import PREDICTIONS
from voxella.classification.scenario import Scenario
from voxella.classification.store import InputStore
from voxella.classification.summary import CURVES, SCENARIOS, show_scenario, write_scenario
from voxella.engine.ranks import Ranks
from voxella.engine.runtime import barrier, start_distributed
from voxella.files import sha256_file, write_text_atomic
from voxella.progress import say
from voxella.pseudonyms import read_synthetic
from voxella.recipe.classification import Classify
from voxella.recipe.load import dump_recipe
from voxella.recipe.model import Recipe
from voxella.stages.classify_check import check_classify, samples_folder, settings_of
from voxella.stages.classify_training import train_classifier
from voxella.stages.folders import Folders
from voxella.stages.record import StageRecord
from voxella.stages.results import observe_results

__all__ = ["classify"]


def classify(recipe: Recipe, run: Path, *, stop_after: int | None = None) -> Path | None:
    """Train a recipe's classifiers, one for each seed; every process of the job calls this.

    Seeds are the recipe's seed and the ones after it, so more seeds later keep what there is.

    Args:
        recipe: The experiment, with a ``classify`` block.
        run: The run folder; its prepared cases must exist, and its samples where they are used.
        stop_after: Stop the training that is in progress, with a checkpoint, after this step.

    Returns:
        ``RUN/classify/NAME``, or None when stopped before the end.

    Raises:
        UserError: Naming what forbids it; see :func:`voxella.classification.examples.select`.
    """
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    settings = settings_of(recipe)
    check_classify(recipe, ranks)
    folders = Folders.of(recipe, run)
    prepared = Manifest.read(folders.prepared)
    examples = select(recipe, prepared, _samples(settings, folders, prepared), ranks)
    folder = folders.run / "classify" / recipe.name
    if ranks.is_main:
        _tell(recipe, examples)
    store = InputStore(folders.work / "classifier_inputs", settings, recipe.data.sequences)
    store.build(examples.all.values(), ranks)
    barrier()
    scenario = Scenario(recipe, settings, folder, examples, store, ranks)
    trainings = {}
    for seed in range(recipe.seed, recipe.seed + settings.seeds):
        done = train_classifier(scenario, seed, stop_after)
        if done is None:
            return None
        trainings[seed] = done
    if ranks.is_main:
        _measure(scenario, folders, trainings)
    barrier()
    return folder


def _measure(scenario: Scenario, folders: Folders, trainings: dict[int, dict[str, Any]]) -> None:
    """Write the scenario's numbers, unless they are there, tell the observers, and show them."""
    folder, recipe = scenario.folder, scenario.recipe
    made_of = {
        "predictions": {s: sha256_file(folder / f"seed-{s}" / PREDICTIONS) for s in trainings},
        "left_out": scenario.examples.left_out,
        "recipe": recipe.model_dump(mode="json", include={"name", "paper", "seed"}),
        "sure": recipe.evaluate.model_dump(include={"bootstrap", "level"}),
    }
    record = StageRecord(folder, "classify", made_of)
    there = SCENARIOS.read_or_remake(folder / "metrics.json") is not None
    there = CURVES.read_or_remake(folder / "curves.json") is not None and there
    if record.is_current() and there:
        say(f"classify: up to date, {folder}")
    else:
        record.invalidate()
        write_text_atomic(folder / "recipe.yaml", dump_recipe(recipe))
        written = write_scenario(recipe, folder, scenario.examples, trainings)
        found = SCENARIOS.read(written) or {}
        observe_results(recipe, folders, f"classify/{recipe.name}", found["metrics"])
        record.complete(["metrics.json", "curves.json"], seeds=sorted(trainings))
    show_scenario(folder)
    say(f"classify: {folder / 'metrics.json'}")


def _samples(settings: Classify, folders: Folders, prepared: Manifest) -> Manifest | None:
    """Return the synthetic data set that is trained on, or None when none is."""
    if settings.training_set == "real":
        return None
    folder = samples_folder(settings, folders.samples)
    return read_synthetic(folder, prepared)


def _tell(recipe: Recipe, examples: Examples) -> None:
    """Say what is trained on, and what is not."""
    positive = recipe.data.classes[-1]
    for name, cases in [*examples.phases, ("val", examples.val), ("test", examples.test)]:
        count = sum(e.target == len(recipe.data.classes) - 1 for e in cases.values())
        say(f"classify: {name or 'train'}: {len(cases)} cases, {count} {positive}")
    for where, count in examples.left_out.items():
        say(f"classify: {count} case(s) without a label left out ({where})")
    if examples.held_out_twins:
        say(f"classify: {examples.held_out_twins} synthetic twins of val and test cases left out")
    if not examples.test:
        say("warning: no labelled case in the split test: there will be no numbers")
