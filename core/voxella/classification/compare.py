"""Two scenarios on the same test cases: is one better, or was it luck."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from typing_extensions import TypedDict

from voxella.classification.predict import PREDICTIONS, read_predictions
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.metrics.comparison import PairedTest, compare_accuracy, compare_auc
from voxella.metrics.predictions import ClassPredictions, Predictions, aligned
from voxella.terminal import make_console
from voxella.workspace.lock import holding
from voxella.workspace.state import StateFile, sealed

__all__ = ["compare_scenarios"]

COMPARISON = "comparison.json"


class _Compared(TypedDict):
    comparisons: dict[str, dict[str, Any]]


_COMPARED: StateFile[_Compared] = StateFile(
    _Compared, "rm {path}, then compare again; the comparisons in it are lost"
)
_SEED = re.compile(r"seed-(\d+)$")


def compare_scenarios(first: Path, second: Path, out: Path | None = None) -> Path:
    """Compare AUC (DeLong) and accuracy (McNemar) of two scenarios, case by case.

    Of several trainings the MEAN probability of each case is compared, which is the classifier that
    asks all of them, and beside it every seed that both have. Comparisons gather in one file.

    Args:
        first: ``RUN/classify/NAME``.
        second: Another, for the same test cases; of the same run or of another one.
        out: Folder of ``comparison.json``; None: the folder that holds ``first``.

    Raises:
        UserError: A folder holds no test predictions, or the test cases or their labels differ.
    """
    first, second = Path(first).absolute(), Path(second).absolute()
    seeds = [_by_seed(folder) for folder in (first, second)]
    together = [_mean(list(found.values())) for found in seeds]
    shared = sorted(set(seeds[0]) & set(seeds[1]))
    tests = _tests(*together)
    entry = {
        "first": first.name,
        "second": second.name,
        "folders": [str(first), str(second)],
        "split": "test",
        "cases": len(together[0]),
        "trainings": [len(found) for found in seeds],
        "how": "first minus second; mean probability over trainings",
        **{name: test.as_json() for name, test in tests.items()},
        "seeds": {
            str(seed): {n: t.as_json() for n, t in _tests(seeds[0][seed], seeds[1][seed]).items()}
            for seed in shared
        },
    }
    name = f"{first.name} - {second.name}"
    path = (first.parent if out is None else Path(out)) / COMPARISON
    # Not the whole run: its training may go on.
    with holding(path.parent, name=f".{COMPARISON}.lock"):
        write_json_atomic(path, sealed({"format": 1, "comparisons": _kept(path) | {name: entry}}))
    _show(name, len(together[0]), tests)
    return path


def _tests(first: Predictions, second: Predictions) -> dict[str, PairedTest]:
    return {"auc": compare_auc(first, second), "accuracy": compare_accuracy(first, second)}


def _by_seed(folder: Path) -> dict[int, Predictions]:
    found = {
        int(match[1]): read_predictions(path / PREDICTIONS, "test")
        for path in folder.glob("seed-*")
        if (match := _SEED.search(path.name))
    }
    several = [test for test in found.values() if isinstance(test, ClassPredictions)]
    if several:
        raise UserError(
            f"{folder}: the tests of DeLong and McNemar are of two classes, here are "
            f"{len(several[0].classes)}: {', '.join(several[0].classes)}",
            remedy="--set data.positive=CLASS, or voxella study, which draws patients",
        )
    known = {s: test for s, test in sorted(found.items()) if isinstance(test, Predictions)}
    if not known:
        raise UserError(
            f"{folder}: no predictions of test cases",
            expected="RUN/classify/NAME of a finished voxella classify with a test split",
        )
    return known


def _mean(trainings: list[Predictions]) -> Predictions:
    """Return the mean probability of every case over trainings."""
    for other in trainings[1:]:
        aligned(trainings[0], other)
    scores = np.mean([training.scores for training in trainings], axis=0)
    return replace(trainings[0], scores=scores)


def _kept(path: Path) -> dict[str, Any]:
    """Return the comparisons that are there already."""
    found = _COMPARED.read(path)
    return {} if found is None else found["comparisons"]


def _show(name: str, cases: int, tests: dict[str, PairedTest]) -> None:
    table = Table(title=f"{name}, {cases} test cases", title_justify="left")
    for heading in ("", "difference", "95 % interval", "p", "test", "note"):
        table.add_column(heading)
    for metric, test in tests.items():
        found = test.difference
        value = "-" if found.value is None else f"{found.value:+.3f}"
        ends = "-" if found.low is None else f"{found.low:+.3f} to {found.high:+.3f}"
        p_value = "-" if test.p_value is None else f"{test.p_value:.3g}"
        table.add_row(metric, value, ends, p_value, test.test, found.note or "")
    make_console().print(table)
