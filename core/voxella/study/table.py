"""A study's tables: our numbers, the paper's beside them where that means something, verdicts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.metrics.declared.lookup import number_of
from voxella.study.claims import ComparisonResult, Paired, compare, comparisons
from voxella.study.plan import Table
from voxella.study.pooled import Pooled, Row, trainings_of
from voxella.study.results import Number, Result

__all__ = ["Filled", "fill"]


@dataclass(frozen=True)
class Filled:
    """A table with its numbers.

    Attributes:
        table: Which recipes and columns.
        results: By recipe.
        outcomes: One per comparison of the claims.
    """

    table: Table
    results: Mapping[str, Row]
    outcomes: tuple[ComparisonResult, ...]

    @property
    def columns(self) -> list[str]:
        """Return the metrics, in order."""
        return list(self.table.study.columns)

    def number(self, recipe: str, metric: str) -> Number:
        """Return one cell."""
        return self.results[recipe].number(metric)

    def shows_paper(self, metric: str) -> bool:
        """Return whether the paper's numbers stand beside a column: for all of its rows or none."""
        found = [self.number(recipe, metric) for recipe in self.table.rows]
        measured = [number for number in found if number.estimate.value is not None]
        return (
            any(number.paper is not None for number in found)
            and bool(measured)
            and all(number.comparable for number in measured)
        )

    def paper_lines(self) -> list[str]:
        """Say which of the paper's numbers exist but do not stand beside ours, and why."""
        withheld: dict[str, list[str]] = {}
        for metric in self.columns:
            numbers = [self.number(recipe, metric) for recipe in self.table.rows]
            if self.shows_paper(metric) or all(number.paper is None for number in numbers):
                continue
            reasons = dict.fromkeys(number.why_not for number in numbers if number.why_not)
            why = "; ".join(reasons) or "nothing is measured yet"
            withheld.setdefault(why, []).append(number_of(metric).heading)
        return [
            f"The paper has {', '.join(names)} of these recipes; not shown beside ours: {why}."
            for why, names in withheld.items()
        ]

    def networks(self) -> dict[str, list[str]]:
        """Return the networks behind the table's features, each with its columns."""
        found: dict[str, list[str]] = {}
        for metric in self.columns:
            names = {self.number(recipe, metric).network for recipe in self.table.rows}
            for name in sorted(name for name in names if name is not None):
                found.setdefault(name, []).append(number_of(metric).heading)
        return found

    def unfinished(self) -> list[str]:
        """Name the recipes without numbers, and why."""
        told = []
        for result in (r for row in self.table.rows for r in trainings_of(self.results[row])):
            if result.failure is not None:
                told.append(f"{result.step.name} failed: {result.failure}")
            elif result.status == "missing":
                told.append(
                    f"{result.step.name} has not run to its end; the same command continues"
                )
        return told

    def repeated(self) -> list[str]:
        """Say that each number is a mean, where recipes were trained several times."""
        seeds = self.table.study.seeds
        if seeds == 1:
            return []
        return [
            f"Each number is the mean of {seeds} trainings, its interval is over trainings and "
            "patients; of one training each: table.csv, or --each-seed"
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the table as JSON-ready data."""
        return {
            "name": self.table.study.name,
            "description": self.table.study.description,
            "columns": [
                {
                    "metric": metric,
                    "heading": number_of(metric).heading,
                    "paper": self.shows_paper(metric),
                }
                for metric in self.columns
            ],
            "rows": [self._row(recipe) for recipe in self.table.rows],
            "verdicts": [outcome.as_json() for outcome in self.outcomes],
            "repeated": self.repeated(),
            "paper_lines": self.paper_lines(),
            "networks": self.networks(),
            "unfinished": self.unfinished(),
        }

    def _row(self, recipe: str) -> dict[str, Any]:
        row = self.results[recipe]
        cells = {metric: self._cell(self.number(recipe, metric), metric) for metric in self.columns}
        told = {
            "recipe": recipe,
            "description": row.step.recipe.description,
            **_place(row),
            "cells": cells,
        }
        if isinstance(row, Pooled):
            told["trainings"] = [self._training(result) for result in row.results]
        return told

    def _training(self, result: Result) -> dict[str, Any]:
        return {
            "seed": result.step.recipe.seed,
            **_place(result),
            "cells": {m: self._cell(result.number(m), m) for m in self.columns},
        }

    def _cell(self, number: Number, metric: str) -> dict[str, Any]:
        return {
            **number.estimate.as_json(),
            "network": number.network,
            "paper": number.paper,
            "paper_shown": self.shows_paper(metric) and number.paper is not None,
        }


def _place(row: Row) -> dict[str, Any]:
    return {
        "run": row.step.folder.name,
        # Of first stages it lies in the workspace, which may be anywhere.
        "metrics": Path(os.path.relpath(row.step.metrics, row.step.folder.parent)).as_posix(),
        "status": row.status,
    }


def fill(table: Table, results: Mapping[str, Row], paired: Paired | None = None) -> Filled:
    """Put the numbers into a table and judge its claims.

    Args:
        table: From the plan.
        results: By recipe, of every row; see :func:`voxella.study.pooled.rows_of`.
        paired: Gives the difference of two recipes from their cases, where they are at hand.
    """
    own = {name: results[name] for name in table.rows}
    outcomes = tuple(
        compare(comparison, own[comparison.left], own[comparison.right], paired)
        for comparison in comparisons(table.study)
    )
    return Filled(table, own, outcomes)
