"""``metrics.json`` and ``curves.json`` of a scenario, and its table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

from rich.table import Table
from typing_extensions import TypedDict

from voxella.classification.examples import Examples
from voxella.classification.metrics import PERCENT_POSITIVE
from voxella.classification.outcome import curves, over_seeds, seed_metrics
from voxella.classification.predict import PREDICTIONS, read_predictions
from voxella.data.phantoms import are_phantoms
from voxella.files import write_json_atomic
from voxella.metrics.declared.published import why_no_classifier
from voxella.metrics.estimate import Estimate
from voxella.metrics.multiclass import one_vs_rest
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data
from voxella.recipe.model import Recipe
from voxella.terminal import make_console
from voxella.workspace.state import StateFile, sealed

__all__ = ["CURVES", "SCENARIOS", "show_scenario", "write_scenario"]

_AGAIN = "rm {path}, then voxella classify RECIPE with the same --out measures again"


class _Scenario(TypedDict):
    metrics: dict[str, dict[str, Any]]
    scenario: str
    training_set: str
    classifier: str
    cases: dict[str, int]
    not_comparable_with_paper: str | None
    paper: dict[str, Any] | None
    seeds: dict[str, dict[str, Any]]
    baselines: NotRequired[dict[str, dict[str, Any]]]


class _Curves(TypedDict):
    seeds: dict[str, dict[str, Any] | None]


SCENARIOS: StateFile[dict[str, Any]] = StateFile(_Scenario, _AGAIN)
CURVES: StateFile[dict[str, Any]] = StateFile(_Curves, _AGAIN)


def write_scenario(
    recipe: Recipe,
    folder: Path,
    examples: Examples,
    trainings: Mapping[int, dict[str, Any]],
    baselines: Mapping[str, dict[str, Any]],
) -> Path:
    """Measure every seed's test predictions and write the scenario's files.

    Args:
        recipe: The experiment.
        folder: ``RUN/classify/NAME``, with a folder for each seed.
        examples: The images.
        trainings: What is known of each seed's training.
        baselines: What simple models make of the same images.
    """
    settings = recipe.classify
    assert settings is not None, "asked for only where the recipe classifies"
    tests = {
        seed: read_predictions(folder / f"seed-{seed}" / PREDICTIONS, "test") for seed in trainings
    }
    by_seed = {
        seed: seed_metrics(test, recipe.evaluate, seed=recipe.seed, name=f"{recipe.name}/{seed}")
        for seed, test in tests.items()
    }
    cases = (example.case for example in examples.all.values())
    papers = None if recipe.paper is None else recipe.paper.classifier
    network, phantoms = settings.classifier.name, are_phantoms(cases)
    differs = why_no_classifier(network, papers, phantoms=phantoms)
    beside = {"comparable_with_paper": differs is None}
    metrics = {
        name: {**estimate.as_json(), "split": "test", **beside}
        for name, estimate in over_seeds(list(by_seed.values())).items()
    }
    metrics[PERCENT_POSITIVE] = {
        **_percent_positive(recipe.data, examples),
        "split": "train",
        **beside,
    }
    write_json_atomic(
        folder / "curves.json",
        sealed(
            {"format": 1, "split": "test", "seeds": {str(s): curves(t) for s, t in tests.items()}}
        ),
    )
    return write_json_atomic(
        folder / "metrics.json",
        sealed(
            {
                "format": 1,
                "metrics": metrics,
                "scenario": recipe.name,
                "training_set": settings.training_set,
                "label": settings.label,
                "classifier": settings.classifier.name,
                "classes": recipe.data.classes,
                **recipe.data.named_positive,
                "threshold": 0.5,
                "cases": _counts(examples),
                "left_out": examples.left_out,
                "not_comparable_with_paper": differs,
                "paper": recipe.paper.model_dump(mode="json") if recipe.paper else None,
                "seeds": {
                    str(seed): {
                        **trainings[seed],
                        "metrics": {name: found.as_json() for name, found in by_seed[seed].items()},
                        **_by_class(
                            tests[seed], recipe.evaluate, recipe.seed, f"{recipe.name}/{seed}"
                        ),
                    }
                    for seed in trainings
                },
                **({"baselines": dict(baselines)} if baselines else {}),
            }
        ),
    )


def show_scenario(folder: Path) -> None:
    """Print a scenario's numbers, with the paper's beside them where the two can be compared."""
    found = SCENARIOS.read(folder / "metrics.json")
    assert found is not None, "written, or seen to be whole, a moment ago"
    paper, differs = found["paper"], found["not_comparable_with_paper"]
    seeds, cases = len(found["seeds"]), found["cases"]
    over = "test cases" if seeds == 1 else f"{seeds} trainings (of each, over test cases: the file)"
    title = f"{found['scenario']}: {cases['train']} training cases, {cases['test']} test cases"
    table = Table(title=f"{title}; intervals over {over}", title_justify="left")
    headings = ["", "value", f"{found['metrics']['auc']['level']:.0%} interval", "note"]
    if paper is not None and differs is None:
        headings.insert(3, "paper")
    for heading in headings:
        table.add_column(heading)
    for name, metric in found["metrics"].items():
        row = [name, _number(metric["value"]), _interval(metric), metric["note"] or ""]
        if len(headings) == 5:
            row.insert(3, _number(paper.get(name)))
        table.add_row(*row)
    console = make_console()
    console.print(table)
    if found.get("baselines"):
        console.print(_baselines(found))
    if paper is not None and differs is not None:
        line = f"the paper's row ({paper['model']}) is not shown: {differs}"
        console.print(line, soft_wrap=True)


def _baselines(found: Mapping[str, Any]) -> Table:
    table = Table(title="baselines on coarse images", title_justify="left")
    for heading in ("", *found["baselines"]):
        table.add_column(heading)
    baselines = list(found["baselines"].values())
    for name in baselines[0]["metrics"]:
        measured = [one["metrics"][name] for one in baselines]
        table.add_row(name, *(f"{_number(m['value'])} ({_interval(m)})" for m in measured))
    return table


def _percent_positive(data: Data, examples: Examples) -> dict[str, Any]:
    """Return the share of positive cases in the (last) training set, in percent."""
    _, last = examples.phases[-1]
    label = data.positive_class
    if label is None:
        why = f"none of the {len(data.classes)} classes is named as data.positive"
        return Estimate.undefined(len(last), why).as_json()
    place = data.classes.index(label)
    positive = sum(e.target == place for e in last.values())
    how = f"{positive} of {len(last)} training cases, counted"
    return Estimate(100 * positive / len(last), None, None, len(last), how=how).as_json()


def _by_class(
    test: Predictions | ClassPredictions | None, settings: Evaluate, seed: int, name: str
) -> dict[str, Any]:
    """Return the numbers of each class against the rest, where none is the positive one."""
    found = (
        {}
        if test is None
        else one_vs_rest(
            test,
            seed=seed,
            name=f"classify/{name}/test",
            replicates=settings.bootstrap,
            level=settings.level,
        )
    )
    return {"one_vs_rest": found} if found else {}


def _counts(examples: Examples) -> dict[str, int]:
    counts = {f"train_{name}": len(chosen) for name, chosen in examples.phases if name}
    return counts | {
        "train": len(examples.phases[-1][1]),
        "val": len(examples.val),
        "test": len(examples.test),
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value > 1 else f"{value:.3f}"


def _interval(metric: Mapping[str, Any]) -> str:
    if metric["low"] is None:
        return "-"
    return f"{metric['low']:.3f} to {metric['high']:.3f}"
