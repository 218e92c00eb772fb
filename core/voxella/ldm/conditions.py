"""The values of cases that a model is conditioned on: judged, counted, made into tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from voxella.case import Case, ConditionValue
from voxella.errors import UserError
from voxella.recipe.condition import Condition
from voxella.wording import listed

__all__ = [
    "class_index",
    "encoded",
    "problems",
    "refuse_other",
    "refuse_spared",
    "refuse_values",
    "seen",
    "wrong_conditions",
]

Blocks = Mapping[str, Condition]
Seen = Mapping[str, Mapping[str, Any]]


def class_index(classes: Sequence[str], case: Case) -> int | None:
    """Return the place of a case's label among the classes; None when it has none.

    Raises:
        UserError: The label is not one of them.
    """
    if case.label is None:
        return None
    if case.label not in classes:
        raise UserError(
            f"case {case.id}: label {case.label!r} is not a class of the recipe",
            expected=", ".join(classes),
            remedy="--set 'data.classes=[...]', or import again with these names",
        )
    return classes.index(case.label)


def encoded(blocks: Blocks, case: Case) -> dict[str, Tensor]:
    """Return a case's conditions as tensors ``(width,)``, by name.

    Raises:
        UserError: A value is missing and must not be, or outside.
    """
    refuse_values(blocks, [case])
    return {
        name: torch.tensor(block.encode(case.conditions.get(name)))
        for name, block in blocks.items()
    }


def problems(blocks: Blocks, cases: Iterable[Case]) -> dict[tuple[str, str], list[str]]:
    """Return the ids of cases whose values cannot be taken, by condition and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for case in cases:
        for name, block in blocks.items():
            if (why := block.problem(case.conditions.get(name))) is not None:
                found.setdefault((name, why), []).append(case.id)
    return found


def refuse_values(blocks: Blocks, cases: Iterable[Case]) -> None:
    """Refuse values that cannot be taken, of all cases at once; none is quoted.

    Raises:
        UserError: A value is missing and must not be, or outside.
    """
    if found := problems(blocks, cases):
        lines = [
            f"condition {name} {why}: case{'' if len(ids) == 1 else 's'} {listed(ids)}"
            for (name, why), ids in found.items()
        ]
        name = next(iter(found))[0]
        raise UserError(
            "\n".join(lines),
            remedy=f"fix the data set, widen conditions.{name}, or take such values otherwise: "
            f"--set conditions.{name}.outside=missing",
        )


def seen(blocks: Blocks, cases: Iterable[Case]) -> dict[str, dict[str, Any]]:
    """Return how a model was conditioned: each block, and of how many training cases it was known.

    Of a category also the words that occurred. Numbers are not kept: a greatest age identifies.
    """
    cases = list(cases)
    told: dict[str, dict[str, Any]] = {}
    for name, block in blocks.items():
        values = [case.conditions.get(name) for case in cases]
        known = [value for value in values if not block.is_missing(value)]
        counts = {"cases_known": len(known), "cases_missing": len(values) - len(known)}
        told[name] = {**block.model_dump(mode="json"), **counts}
        if block.values is not None:
            rows = [block.encode(value) for value in known]
            told[name]["seen"] = [
                word for place, word in enumerate(block.words) if any(row[place] for row in rows)
            ]
    return told


def wrong_conditions(
    blocks: Blocks, given: Mapping[str, ConditionValue], trained: Seen | None
) -> Iterator[str]:
    """Yield what is wrong with the conditions that a volume is asked for; no value is quoted.

    Args:
        blocks: The recipe's.
        given: By name.
        trained: As :func:`seen` returned it of the model; None where there is none yet.
    """
    if len(given.keys() - blocks.keys()):
        # A name that no model has may be anything, a report as well.
        expected = ", ".join(blocks) or "none: the recipe has no conditions"
        yield f"conditions: a name that the recipe has not; expected: {expected}"
    for name, block in blocks.items():
        value = given.get(name)
        if (why := block.problem(value)) is not None:
            yield f"condition {name} {why}"
        elif not block.is_missing(value) and trained is not None and name in trained:
            words = trained[name].get("seen")
            if words is not None and not any(
                block.encode(word) == block.encode(value) for word in words
            ):
                expected = ", ".join(words)
                yield f"condition {name}: no training case had this word; expected: {expected}"


def refuse_spared(spared: Iterable[str], cases: Iterable[Case]) -> None:
    """Refuse ``dropout.spared`` that names what no training case is known by: it spares nobody.

    Args:
        spared: Names of conditions.
        cases: Of training.

    Raises:
        UserError: Naming them, and what the cases are known by.
    """
    known = {name for case in cases for name in case.conditions}
    if unknown := sorted(set(spared) - known):
        raise UserError(
            f"dropout.spared: no training case is known by {', '.join(unknown)}",
            expected=", ".join(sorted(known)) or "none: the cases have no conditions",
            remedy="--set dropout.spared={}",
        )


def refuse_other(blocks: Blocks, trained: Seen) -> None:
    """Refuse a recipe whose conditions become other tensors than those a model was trained on.

    Args:
        blocks: The recipe's.
        trained: What the model says, as :func:`seen` returned it.

    Raises:
        UserError: A condition is absent, new, or made otherwise.
    """
    decides = ("kind", "range", "values")
    mine = {
        name: block.model_dump(mode="json", include=set(decides)) for name, block in blocks.items()
    }
    theirs = {name: {key: told.get(key) for key in decides} for name, told in trained.items()}
    if mine == theirs:
        return
    names = sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))
    raise UserError(
        f"conditions {', '.join(names)}: the recipe says otherwise than the one that the model was "
        "trained with",
        expected=f"as trained: {theirs or 'none'}",
        remedy="voxella train RECIPE   (trains anew), or take RUN/model/recipe.yaml",
    )
