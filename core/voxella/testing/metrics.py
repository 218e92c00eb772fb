"""What every metric has to hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor

from voxella.case import Case
from voxella.metrics.declared.contract import NEEDS, Features, Metric, Predicted
from voxella.metrics.declared.measured import Measured, NoNumberError
from voxella.metrics.declared.number import Direction, Number
from voxella.metrics.predictions import ClassPredictions, Predictions
from voxella.metrics.vectors import VectorSet
from voxella.testing.contract import Contract

__all__ = ["MetricContract"]

_CASES = 12
_REPORT = "lesion of thirteen millimetres"
_NETWORK = "random-check"


class MetricContract(Contract):
    """Declared numbers, and no other; of a few invented cases, of one case, and the same twice."""

    kind: ClassVar[str] = "metrics"

    def metric(self) -> Metric[Any]:
        """Build the metric."""
        metric: Metric[Any] = self.build()
        return metric

    def measured(self, cases: int = _CASES) -> Iterator[Mapping[str, Measured]]:
        """Yield the numbers of each kind of evidence; a refusal in words is none."""
        metric = self.metric()
        for evidence in evidences(metric.needs, cases):
            try:
                yield metric.measure(evidence)
            except NoNumberError:
                yield {}

    def test_numbers_are_declared_well(self) -> None:
        """Keys are words, each once; labels are there; directions and needs are known ones."""
        metric = self.metric()
        keys = [number.key for number in metric.numbers]
        assert keys, "it declares no number"
        assert len(set(keys)) == len(keys), f"a key is declared twice: {', '.join(keys)}"
        for number in metric.numbers:
            assert isinstance(number, Number), f"{type(number).__name__} is no Number"
            assert number.key.isidentifier(), f"the key {number.key!r} is no word"
            assert number.label, f"{number.key} has no label"
            assert number.heading, f"{number.key} has no heading"
            assert number.better in get_args(Direction), f"{number.key}: better={number.better!r}"
        unknown = set(metric.needs) - set(NEEDS)
        assert not unknown, f"needs has {sorted(unknown)}; expected: {', '.join(NEEDS)}"

    def test_declarations_are_always_the_same(self) -> None:
        """A table, a page and a study each build it anew and have to say the same."""
        first, second = self.metric(), self.metric()
        assert tuple(first.numbers) == tuple(second.numbers), "two builds declare other numbers"
        assert first.needs == second.needs, "two builds declare other needs"

    def test_it_measures_what_it_declares(self) -> None:
        """Each number is a declared one, within its bounds, and bears the name of its network."""
        metric = self.metric()
        declared = {number.key: number for number in metric.numbers}
        of_features = all(word.startswith("features") for word in metric.needs)
        for found in self.measured():
            unknown = set(found) - set(declared)
            assert not unknown, f"it returned {sorted(unknown)}, which it does not declare"
            for key, number in found.items():
                assert isinstance(number, Measured), f"{key}: {type(number).__name__}"
                value = number.estimate.value
                inside = value is None or not declared[key].bounded or 0 <= value <= 1
                assert inside, f"{key} is declared between 0 and 1, and is {value}"
                named = not of_features or number.network == _NETWORK
                assert named, f"{key} is of the features of {_NETWORK}, but of {number.network}"

    def test_measuring_is_deterministic(self) -> None:
        """Draws are decided by the seed."""
        first, second = list(self.measured()), list(self.measured())
        assert first == second, "measured twice, it finds another thing"

    def test_few_cases_are_no_failure(self) -> None:
        """Of one case it says in words why there is no number."""
        for _ in self.measured(1):
            pass

    def test_reports_stay_private(self) -> None:
        """No report's text is in what is said of a number."""
        for found in self.measured():
            assert _REPORT not in str(found), "a number repeats a report"


@dataclass(frozen=True)
class SmallCase:
    """An invented case."""

    case: Case

    @property
    def id(self) -> str:
        """Return the case's id."""
        return self.case.id

    @property
    def group(self) -> str:
        """Return whose it is."""
        return self.case.group


@dataclass
class SmallEvidence:
    """Invented cases; what was not declared is refused. A run there is not: who asks is skipped."""

    needs: frozenset[str]
    cases: int
    seed: int = 0
    level: float = 0.95
    replicates: int = 20
    halves: int = 4
    split: str = "test"
    paired: bool = True
    floor_size: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    facts: dict[str, Any] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a run has
        raise SkipTest(f"it reads {name} of a whole run, which a check does not have")

    @property
    def real(self) -> list[SmallCase]:
        """Return real cases, of both classes in turn."""
        return self._some("real")

    @property
    def synthetic(self) -> list[SmallCase]:
        """Return as many synthetic ones."""
        return self._some("synthetic")

    def _some(self, what: str) -> list[SmallCase]:
        names = [f"{what}-{number}" for number in range(self.cases)]
        labels = ("negative", "positive")
        return [
            SmallCase(
                Case(id=name, group=f"p-{n}", images={"t2w": "i.nii.gz"}, label=labels[n % 2])
            )
            for n, name in enumerate(names)
        ]

    def features(self, kind: str = "") -> Features:
        """Return random vectors, a row a case."""
        self._require(f"features_{kind}" if kind else "features")
        return Features(_NETWORK, False, self._vectors("real", 1), self._vectors("synthetic", 2))

    def _vectors(self, what: str, seed: int) -> VectorSet:
        values = np.random.default_rng(seed).normal(size=(self.cases, 3))
        cases = self._some(what)
        patients = [case.group for case in cases]
        return VectorSet.of(values, [case.id for case in cases], patients=patients, what=what)

    def image(self, case: SmallCase) -> Tensor:
        """Return a random image that depends on the case."""
        self._require("images")
        generator = torch.Generator().manual_seed(len(case.id) * 100 + ord(case.id[-1]))
        return torch.rand(1, 12, 12, 12, generator=generator)

    def reconstruction(self, case: SmallCase) -> Tensor:
        """Return a constant image."""
        self._require("reconstructions")
        return torch.full((1, 12, 12, 12), 0.5)

    def report(self, case: SmallCase) -> str | None:
        """Return a text that must be found nowhere."""
        self._require("reports")
        return _REPORT

    def _require(self, word: str) -> None:
        assert word in self.needs, f"it asks for {word}, which its needs lack"


def evidences(needs: frozenset[str], cases: int) -> Iterator[Any]:
    """Yield what a metric with such needs is given: cases, or predictions of two and of three."""
    if "predictions" not in needs:
        yield SmallEvidence(needs, cases)
        return
    ids = [f"case-{number}" for number in range(cases)]
    dice = np.random.default_rng(0)
    truth = np.arange(cases) % 2
    two = Predictions.of(ids, truth, dice.uniform(size=cases))
    rows = dice.dirichlet(np.ones(3), size=cases)
    places = [number % 3 for number in range(cases)]
    three = ClassPredictions.of(("a", "b", "c"), ids, places, rows.tolist())
    for test in (two, three):
        yield Predicted(test, 0, "check", 0.95, 20)
