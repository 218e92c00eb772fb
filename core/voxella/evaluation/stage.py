"""`voxella evaluate`: how near the synthetic volumes are to real ones, and whether to any one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.cache.latents import LatentCache
from voxella.cache.text import TextCache
from voxella.case import Manifest
from voxella.check.synthetic_sets import data_sets_in
from voxella.data.gate import hold, judge, require_gate
from voxella.engine.runtime import barrier, broadcast_object, start_distributed
from voxella.errors import UserError
from voxella.evaluation.classifier import frozen_classifier
from voxella.evaluation.classifier_features import ClassifierPredictions, classifier_predictions
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.evidence import SampleEvidence
from voxella.evaluation.features import extract_all
from voxella.evaluation.memorisation import SPACES
from voxella.evaluation.networks import Network, networks_of
from voxella.evaluation.numbers import all_numbers, asked_networks, needs_of, share_work
from voxella.evaluation.plan import make_plan
from voxella.evaluation.report import METRICS, read_metrics, write_metrics
from voxella.evaluation.sets import Sets, probe_for, read_sets
from voxella.evaluation.table import show_metrics
from voxella.hashing import sha256_json
from voxella.ldm.export import load_facts, observe_results
from voxella.ldm.model_card import renew_card
from voxella.metrics.declared.lookup import Chosen, chosen_metrics, identity_of
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.sampling.stage import variants
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["evaluate"]

_FORMAT = 3
# What decides no number: where weights lie (their hash does), and what is made of the numbers.
_NOT_OF_A_NUMBER = {
    *("gate", "classifier", "metrics"),
    *("medicalnet", "radimagenet", "inception"),
    *("medicalnet_sha256", "radimagenet_sha256", "inception_sha256"),
}


@dataclass(frozen=True)
class _DataSet:
    """A data set to be measured, where its numbers go, and by whom it was made."""

    recipe: Recipe
    samples: Path
    out: Path
    name: str
    own: bool


@dataclass(frozen=True)
class _Evaluators:
    """What looks at volumes, networks and a classifier that is asked, and for which metrics."""

    networks: list[Network]
    classifier: ClassifierPredictions | None
    metrics: list[Chosen]


def evaluate(recipe: Recipe, run: Path, samples: Path | None = None) -> Path:
    """Measure the run's synthetic data set, or another; every process of the job calls this.

    Features are kept by content hash: a killed evaluation goes on, one up to date is shown again.

    Args:
        recipe: The experiment.
        run: The run folder; its real cases must be prepared.
        samples: A data set folder, or a folder of such; None: the run's own.

    Returns:
        The folder that holds ``metrics.json``; of several data sets, one such folder for each.

    Raises:
        UserError: What cannot be supported: mixed splits, other grids, NaN, missing weights; or
            the gate holds a data set back (all numbers are written then).
    """
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    settings, data, prepare = recipe.evaluate, recipe.data, recipe.prepare
    metrics = chosen_metrics(settings.metrics)
    networks = asked_networks(networks_of(settings, data, prepare, ranks.device), needs_of(metrics))
    named = settings.classifier if "classifier" in needs_of(metrics) else None
    kept = frozen_classifier(named, data, prepare)
    classifier = None if kept is None else classifier_predictions(kept, ranks.device)
    evaluators = _Evaluators(networks, classifier, metrics)
    prepared = Manifest.read(folders.prepared)
    held_back: list[UserError] = []
    for data_set in _data_sets(recipe, folders, samples):
        if ranks.is_main and settings.gate is not None:
            hold(data_set.samples, settings.gate)
        sets = read_sets(SetSettings.of(data_set.recipe), prepared, data_set.samples, ranks)
        _measure(data_set, folders, sets, evaluators, ranks)
        problem = broadcast_object(_judged(data_set, sets) if ranks.is_main else None)
        held_back += [problem] if problem is not None else []
    if held_back:
        raise UserError("\n".join(str(problem) for problem in held_back))
    return folders.evaluation


def _data_sets(recipe: Recipe, folders: Folders, samples: Path | None) -> Iterator[_DataSet]:
    if samples is None:
        for variant, folder in variants(recipe, folders.samples):
            name = "" if folder == folders.samples else folder.name
            yield _DataSet(variant, folder, folders.evaluation / name, name, own=True)
        return
    samples = Path(samples).absolute()
    for folder in data_sets_in(samples):
        name = f"external/{folder.relative_to(samples.parent).as_posix()}"
        yield _DataSet(recipe, folder, folders.evaluation / name, name, own=False)


def _measure(
    data_set: _DataSet, folders: Folders, sets: Sets, evaluators: _Evaluators, ranks: Ranks
) -> None:
    """Measure one data set, unless that is done; collective."""
    recipe, out = data_set.recipe, data_set.out
    record = StageRecord(out, "evaluate", _inputs(data_set, folders, sets, evaluators))
    known = read_metrics(out)
    current = broadcast_object(record.is_current() and known is not None)
    barrier()  # No process may still be looking when another begins to write.
    if current:
        print_line(f"evaluate: up to date, {out}", quiet=not ranks.is_main)
    else:
        if ranks.is_main:
            record.invalidate()
        needs = needs_of(evaluators.metrics)
        plan = make_plan(
            recipe, folders, sets, evaluators.networks, ranks, evaluators.classifier, needs
        )
        extract_all(plan.wanted(), ranks)
        evidence = SampleEvidence(recipe, folders, plan, out, ranks, data_set.own)
        share_work(evidence, evaluators.metrics)
        if ranks.is_main:
            numbers = all_numbers(evidence, evaluators.metrics)
            known = write_metrics(
                out,
                sets,
                data_set.samples,
                evaluators.networks,
                numbers,
                recipe=recipe.name,
                sequence=recipe.evaluate.sequence or recipe.data.sequences[0],
                seed=recipe.seed,
                paper=recipe.paper,
            )
            stage = f"evaluate/{data_set.name}".rstrip("/")
            observe_results(recipe, folders, stage, known["metrics"])
            record.complete([METRICS], metrics=len(numbers.metrics))
        barrier()
    if ranks.is_main and known is not None:
        if data_set.own and not data_set.name:
            renew_card(folders.model, known, Manifest.read(data_set.samples))
        where = f" ({data_set.name})" if data_set.name else ""
        apart = len(sets.generated) - len(sets.synthetic)
        show_metrics(
            known,
            f"{recipe.name}{where}: {len(sets.synthetic)} synthetic cases against "
            f"{len(sets.real)} real {sets.split} cases"
            + (f"; {apart} of other splits are searched for copies alone" if apart else ""),
        )


def _inputs(
    data_set: _DataSet, folders: Folders, sets: Sets, evaluators: _Evaluators
) -> dict[str, Any]:
    recipe = data_set.recipe
    settings = recipe.evaluate.model_dump(mode="json", exclude=_NOT_OF_A_NUMBER)
    real = [
        (s.id, s.content, s.case.split, s.case.label, s.case.label_source)
        for s in (*sets.real, *sets.unseen)
    ]
    training = [(s.id, s.content, s.group) for s in sets.training]
    probe = probe_for(sets)
    return {
        "format": _FORMAT,
        "settings": settings,
        "seed": recipe.seed,
        "classes": recipe.data.classes,
        **recipe.data.named_positive,
        "sampler": [recipe.sample.sampler, recipe.sample.steps],
        "networks": [network.fingerprint for network in evaluators.networks],
        "detector": None if probe is None else probe.fingerprint,
        "synthetic": sha256_json([(s.content, s.case.hashed()) for s in sets.generated]),
        "real": sha256_json([real, training, sets.split, sets.unseen_split]),
        "paper": None if recipe.paper is None else recipe.paper.model_dump(),
        **_caches(data_set, folders),
        **({} if evaluators.classifier is None else evaluators.classifier.identity()),
        **identity_of(recipe.evaluate.metrics, evaluators.metrics),
    }


def _caches(data_set: _DataSet, folders: Folders) -> dict[str, str | None]:
    """Return what identifies the model and the caches of the run, as far as they are there."""
    found: dict[str, str | None] = {"latents": None, "text": None, "model": None}
    ways: dict[str, Callable[[], str]] = {
        "latents": lambda: LatentCache.open(folders.latents).key,
        "text": lambda: TextCache.open(folders.text).key,
        "model": lambda: load_facts(folders.model).weights_sha256,
    }
    for name, way in ways.items():
        try:
            found[name] = way()
        except UserError:
            continue
    return found


def _judged(data_set: _DataSet, sets: Sets) -> UserError | None:
    """Write the gate's verdict where the recipe asks for one; return why it holds back, if so."""
    limit = data_set.recipe.evaluate.gate
    known = read_metrics(data_set.out)
    if limit is None or known is None:
        return None
    shares = {space: _share(known["metrics"], space) for space in SPACES}
    passed = judge(Manifest.read(data_set.samples), limit, shares, sets.hashes)
    if passed:
        print_line(f"evaluate: the gate of {limit:.2%} lets {data_set.samples} pass")
        return None
    try:
        require_gate(data_set.samples)
    except UserError as problem:
        return problem
    return None


def _share(metrics: Mapping[str, Mapping[str, Any]], space: str) -> tuple[float, float] | str:
    """Return the share of copies and its upper end: beyond chance one by one, or all together.

    Volumes each of which chance could have brought so near to a patient, but not so many of them,
    count by the lower end of their excess.
    """
    certain = metrics[f"copies_beyond_chance_{space}"]
    if certain["value"] is None:
        return str(certain["note"])
    suspected = metrics[f"copies_share_{space}"]
    by_chance = float(suspected["floor"]["value"])
    together = float(suspected["low"]) - by_chance, float(suspected["high"]) - by_chance
    return max((float(certain["value"]), float(certain["high"])), together)
