"""Stage `classify`: a classifier trained on real or synthetic images, measured on real ones.

``classify/NAME/seed-K/`` holds ``log.jsonl``, ``validation.jsonl``, ``checkpoints/``,
``best.safetensors`` (the epoch that validation chose), ``predictions.jsonl`` and ``stage.json``;
``classify/NAME/`` the recipe, ``metrics.json`` and ``curves.json`` over all seeds. NAME is the
recipe's. Killed at any moment, the stage goes on where it was.

What can be known to be wrong with a classifier before hours of preparation and sampling.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from voxella.case import MANIFEST, Manifest
from voxella.check.synthetic_sets import check_samples
from voxella.classification.baselines import measure_baselines
from voxella.classification.examples import Examples, select
from voxella.classification.outcome import metrics_of_predictions
from voxella.classification.predict import PREDICTIONS
from voxella.classification.scenario import Scenario
from voxella.classification.store import InputStore
from voxella.classification.summary import CURVES, SCENARIOS, show_scenario, write_scenario
from voxella.classification.task import build_task
from voxella.classification.training import train_classifier
from voxella.data.pseudonyms import read_synthetic
from voxella.engine.runtime import barrier, start_distributed
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.files import write_text_atomic
from voxella.hashing import sha256_file, sha256_json
from voxella.ldm.export import observe_results
from voxella.metrics.declared.lookup import identity_of
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify
from voxella.recipe.inputs import Data
from voxella.recipe.load import dump_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["check_classify", "classify", "samples_folder", "settings_of"]


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
    settings = settings_of(recipe.classify, recipe.name)
    check_classify(recipe, ranks)
    recipe = recipe.model_copy(update={"data": settings.data_of(recipe.data)})
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    prepared = Manifest.read(folders.prepared)
    samples = _samples(settings, folders, prepared)
    examples = select(settings, recipe.data.classes, prepared, samples, ranks)
    folder = folders.run / "classify" / recipe.name
    if ranks.is_main:
        _print_summary(recipe.data, examples)
    store = InputStore(
        folders.work / "classifier_inputs",
        settings,
        recipe.data.sequences,
        colours=recipe.colour_channels,
    )
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
        **recipe.data.named_positive,
        "recipe": recipe.model_dump(mode="json", include={"name", "paper", "seed"}),
        "sure": recipe.evaluate.model_dump(include={"bootstrap", "level"}),
        **identity_of(recipe.evaluate.metrics, metrics_of_predictions(recipe.evaluate)),
    }
    if recipe.classify is not None and recipe.classify.baselines:
        images = sorted((i, e.target, e.identity) for i, e in scenario.examples.all.items())
        chosen = [recipe.classify.baselines, scenario.store.key, images]
        made_of["baselines"] = sha256_json(chosen)
    record = StageRecord(folder, "classify", made_of)
    there = SCENARIOS.read_or_remake(folder / "metrics.json") is not None
    there = CURVES.read_or_remake(folder / "curves.json") is not None and there
    if record.is_current() and there:
        print_line(f"classify: up to date, {folder}")
    else:
        record.invalidate()
        write_text_atomic(folder / "recipe.yaml", dump_recipe(recipe))
        baselines = measure_baselines(
            scenario.settings.baselines,
            recipe.data,
            recipe.evaluate,
            recipe.seed,
            recipe.name,
            scenario.examples,
            scenario.store,
        )
        written = write_scenario(recipe, folder, scenario.examples, trainings, baselines)
        found = SCENARIOS.read(written) or {}
        observe_results(recipe, folders, f"classify/{recipe.name}", found["metrics"])
        record.complete(["metrics.json", "curves.json"], seeds=sorted(trainings))
    show_scenario(folder)
    print_line(f"classify: {folder / 'metrics.json'}")


def _samples(settings: Classify, folders: Folders, prepared: Manifest) -> Manifest | None:
    """Return the synthetic data set that is trained on, or None when none is."""
    if settings.training_set == "real":
        return None
    folder = samples_folder(settings, folders.samples)
    return read_synthetic(folder, prepared)


def _print_summary(data: Data, examples: Examples) -> None:
    """Say what is trained on, and what is not."""
    shown = data.classes if data.positive_class is None else [data.positive_class]
    for name, cases in [*examples.phases, ("val", examples.val), ("test", examples.test)]:
        labels = [data.classes[example.target] for example in cases.values()]
        counts = ", ".join(f"{labels.count(label)} {label}" for label in shown)
        print_line(f"classify: {name or 'train'}: {len(cases)} cases, {counts}")
    for where, count in examples.left_out.items():
        print_line(f"classify: {count} case(s) without a label left out ({where})")
    if examples.held_out_counterparts:
        count = examples.held_out_counterparts
        print_line(f"classify: {count} synthetic counterparts of val and test cases left out")
    if not examples.test:
        print_line("warning: no labelled case in the split test: there will be no numbers")


def settings_of(settings: Classify | None, name: str) -> Classify:
    """Return a recipe's ``classify`` block.

    Args:
        settings: What it has.
        name: Its name.

    Raises:
        UserError: It has none.
    """
    if settings is None:
        raise UserError(
            f"recipe {name} has no classify block",
            expected="recipes/downstream/*.yaml, or a recipe of yours that extends one of them",
        )
    return settings


def check_classify(recipe: Recipe, ranks: Ranks) -> None:
    """Refuse settings that cannot work, all of them at once, and a network that cannot be built.

    Raises:
        UserError: What is wrong.
    """
    settings = settings_of(recipe.classify, recipe.name)
    classes = settings.data_of(recipe.data).classes
    problems = list(_problems(settings, len(recipe.prepare.size)))
    try:
        deepspeed_config(settings.deepspeed, world=ranks.world, device=ranks.device)
    except UserError as error:
        problems.append(f"classify.{error.problem}")
    if settings.samples is not None and settings.training_set != "real":
        try:
            # Of a study, the recipe before may still have to make them.
            if _is_there(settings.samples):
                sequences = recipe.data.sequences
                check_samples(sequences, recipe.prepare, settings.samples, on_grid=False)
        except UserError as error:
            problems.append(f"classify.samples: {error.problem}")
    if problems:
        raise UserError("\n".join(problems))
    try:
        with torch.device("meta"):
            build_task(settings, recipe.image_channels, len(classes), recipe.seed)
    except (NotImplementedError, RuntimeError):
        # A plugin that reads a weight while it is built cannot be built so; training will tell.
        return


def samples_folder(settings: Classify, own: Path) -> Path:
    """Return the folder of the synthetic data set that is learnt from.

    Args:
        settings: May name one.
        own: The run's samples.

    Raises:
        UserError: No data set is there.
    """
    folder = settings.samples or own
    if not _is_there(folder):
        inside = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        raise UserError(
            f"{folder} holds no synthetic data set ({MANIFEST} is absent)",
            expected=f"of a sweep, one of {', '.join(inside)}" if inside else None,
            remedy="voxella sample RECIPE --out RUN, then --set classify.samples=RUN/samples",
        )
    return folder


def _is_there(samples: Path | None) -> bool:
    return samples is not None and (samples / MANIFEST).is_file()


def _problems(settings: Classify, axes: int) -> Iterator[str]:
    if len(settings.size) != axes:
        yield f"classify.size has {len(settings.size)} axes, prepare.size has {axes}"
    for key, told in settings.augment.problems(len(settings.size), "classify.size"):
        yield f"classify.augment.{key}: {told}"
    low, high = settings.percentiles
    if not 0 <= low < high <= 100:
        yield f"classify.percentiles: received {low:g}, {high:g}; expected: 0 <= low < high <= 100"
    for name, length in (("train", settings.train), ("finetune", settings.finetune)):
        if length is not None and (length.gradient_checkpointing or length.panel_every):
            yield f"classify.{name}: classifiers have no gradient_checkpointing and no panels"
