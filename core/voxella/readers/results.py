"""What a reader study has shown: accuracy, quality and agreement, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxella.files import write_json_atomic
from voxella.metrics.bootstrap import bootstrap, mean_estimate
from voxella.metrics.estimate import LEVEL, Estimate, clopper_pearson
from voxella.metrics.resampling import Rows
from voxella.readers.agreement import agreement
from voxella.readers.answers import BEST, Answer, read_answers
from voxella.readers.study import Item, ReaderStudy

__all__ = ["LABELS", "METRICS", "is_complete", "results_lines", "study_results", "write_results"]

METRICS = "metrics.json"
REPLICATES = 1000
LABELS = {
    "accuracy": "Right, all readers",
    "sensitivity": "Synthetic called synthetic, all readers",
    "specificity": "Real called real, all readers",
    "quality_real": f"Quality of real cases (1 to {BEST})",
    "quality_synthetic": f"Quality of synthetic cases (1 to {BEST})",
    "quality_difference": "Quality, synthetic less real",
    "kappa_verdict": "Agreement on real or synthetic (kappa)",
    "kappa_quality": "Agreement on quality (kappa)",
}
Floats = NDArray[np.float64]


def is_complete(study: ReaderStudy, answers: Mapping[tuple[int, int], Answer]) -> bool:
    """Return whether every reader has answered every item."""
    return len(answers) == study.readers * len(study.items)


def study_results(study: ReaderStudy, answers: Mapping[tuple[int, int], Answer]) -> dict[str, Any]:
    """Return the numbers, JSON-ready.

    Of each reader the share of right answers has the exact interval of Clopper and Pearson: cases
    are of different groups. What is of all readers counts the cases that all have answered, and is
    bootstrapped over cases, real and synthetic ones apart. Intervals speak of other cases read by
    these readers, not of other readers.

    Args:
        study: The study.
        answers: As :func:`read_answers` has them.
    """
    readers = range(1, study.readers + 1)
    each = {str(reader): _of_reader(study, answers, reader) for reader in readers}
    by_all = [i for i in study.items if all((r, i.number) in answers for r in readers)]
    metrics = _of_all(study, answers, by_all)
    return {
        "readers": study.readers,
        "cases": len(study.items),
        "seed": study.seed,
        "sequence": study.sequence,
        "answers": len(answers),
        "complete": is_complete(study, answers),
        "metrics": {name: estimate.as_json() for name, estimate in metrics.items()},
        "by_reader": {
            reader: {name: estimate.as_json() for name, estimate in found.items()}
            for reader, found in each.items()
        },
    }


def write_results(study: ReaderStudy) -> Path:
    """Write ``metrics.json`` beside the answers and return its path.

    Raises:
        UserError: A line of the answers is none.
    """
    found = study_results(study, read_answers(study))
    return write_json_atomic(study.folder / METRICS, found)


def results_lines(found: Mapping[str, Any]) -> list[str]:
    """Return the numbers of :func:`study_results` as lines for a terminal."""
    whole = found["readers"] * found["cases"]
    lines = [f"{found['answers']} of {whole} answers"]
    for reader, numbers in found["by_reader"].items():
        lines.append(f"Right, reader {reader}: {Estimate(**numbers['accuracy'])}")
    return lines + [f"{LABELS[name]}: {Estimate(**e)}" for name, e in found["metrics"].items()]


def _of_reader(
    study: ReaderStudy, answers: Mapping[tuple[int, int], Answer], reader: int
) -> dict[str, Estimate]:
    read = [(i, answers[reader, i.number]) for i in study.items if (reader, i.number) in answers]
    right = {kind: [g.verdict == i.kind for i, g in read if i.kind == kind] for kind in _KINDS}
    every = [*right["real"], *right["synthetic"]]
    why = "nothing was answered yet"
    return {
        "accuracy": clopper_pearson(sum(every), len(every), why=why),
        "sensitivity": clopper_pearson(sum(right["synthetic"]), len(right["synthetic"]), why=why),
        "specificity": clopper_pearson(sum(right["real"]), len(right["real"]), why=why),
    }


def _of_all(
    study: ReaderStudy, answers: Mapping[tuple[int, int], Answer], items: Sequence[Item]
) -> dict[str, Estimate]:
    readers = range(1, study.readers + 1)

    def table(value: Callable[[Item, Answer], float], kind: str | None = None) -> Floats:
        rows = [
            [value(item, answers[reader, item.number]) for reader in readers]
            for item in items
            if kind in (None, item.kind)
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), study.readers)

    def right(item: Item, given: Answer) -> float:
        return float(given.verdict == item.kind)

    def quality(_: Item, given: Answer) -> float:
        return float(given.quality)

    groups = {kind: [i.group for i in items if i.kind == kind] for kind in _KINDS}
    of = {kind: table(right, kind).mean(axis=1) for kind in _KINDS if groups[kind]}
    scores = {kind: table(quality, kind).mean(axis=1) for kind in _KINDS if groups[kind]}
    # Of a real case and of a synthetic one the same name may stand for two things.
    units = [f"{item.kind} {item.group}" for item in items]
    synthetic = table(lambda _, given: given.verdict == "synthetic").astype(np.int64)
    ranks = table(lambda _, given: given.quality - 1).astype(np.int64)
    seed = study.seed
    return {
        "accuracy": _pooled(of, groups, seed, "accuracy", _whole),
        "sensitivity": _mean(of, groups, "synthetic", seed, "sensitivity"),
        "specificity": _mean(of, groups, "real", seed, "specificity"),
        "quality_real": _mean(scores, groups, "real", seed, "quality_real"),
        "quality_synthetic": _mean(scores, groups, "synthetic", seed, "quality_synthetic"),
        "quality_difference": _pooled(
            scores, groups, seed, "quality_difference", lambda a, b, n, m: b - a
        ),
        "kappa_verdict": agreement(synthetic, units, 2, seed=seed, name="kappa_verdict"),
        "kappa_quality": agreement(
            ranks, units, BEST, seed=seed, name="kappa_quality", ordered=True
        ),
    }


def _whole(real: float, synthetic: float, reals: int, synthetics: int) -> float:
    return (real * reals + synthetic * synthetics) / (reals + synthetics)


def _mean(
    values: Mapping[str, Floats],
    groups: Mapping[str, Sequence[str]],
    kind: str,
    seed: int,
    name: str,
) -> Estimate:
    if kind not in values:
        return Estimate.undefined(0, f"no {kind} case was answered by all readers")
    return mean_estimate(
        values[kind].tolist(),
        groups[kind],
        seed=seed,
        name=f"reader-study/{name}",
        replicates=REPLICATES,
        level=LEVEL,
    )


def _pooled(
    values: Mapping[str, Floats],
    groups: Mapping[str, Sequence[str]],
    seed: int,
    name: str,
    combine: Callable[[float, float, int, int], float],
) -> Estimate:
    """Return a number of both kinds: their means are combined, each kind drawn apart."""
    if len(values) < len(_KINDS):
        return Estimate.undefined(0, "no real, or no synthetic case was answered by all readers")
    real, synthetic = (values[kind] for kind in _KINDS)

    def statistic(first: Rows, second: Rows) -> float:
        a, b = float(real[first].mean()), float(synthetic[second].mean())
        return combine(a, b, len(first), len(second))

    found = bootstrap(
        statistic,
        groups["real"],
        groups["synthetic"],
        seed=seed,
        name=f"reader-study/{name}",
        replicates=REPLICATES,
    )
    return replace(found, n=len(real) + len(synthetic))


_KINDS = ("real", "synthetic")
