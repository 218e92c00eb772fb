"""What volumes are generated from: a split's own reports, or a file of prompts.

A prompt is report text: it goes to the text encoder and nowhere else. Messages name lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from voxella.cache.text import TextCache
from voxella.case import Case
from voxella.errors import UserError
from voxella.export import ModelFacts
from voxella.files import sha256_bytes
from voxella.machine import raise_if_machine
from voxella.recipe.model import Recipe
from voxella.stages.text_encoder import build_text_encoder

__all__ = ["CachedPrompts", "FilePrompts", "Prompts", "prompt_cases"]

_LEGAL = '{"id": "a1", "report": "...", "label": "positive", "spacing_mm": [0.5, 0.5, 0.75]}'


class Prompts(Protocol):
    """Token features by case."""

    fingerprint: str

    def features(self, case: Case) -> Tensor | None:
        """Return ``(L, F)``; None where a model is to be given the empty report."""
        ...


class CachedPrompts:
    """Features of the data set's reports.

    Raises:
        UserError: A case has none.
    """

    def __init__(self, cache: TextCache, cases: Iterable[Case]) -> None:
        cache.require(case.id for case in cases)
        self._cache = cache
        self.fingerprint = cache.fingerprint

    def features(self, case: Case) -> Tensor | None:
        """Return the cached features of a case's report."""
        return self._cache.read(case.id)[0]


class FilePrompts:
    """Features of the prompts of a file, encoded here and kept in memory."""

    def __init__(self, recipe: Recipe, path: Path, cases: Iterable[Case]) -> None:
        assert recipe.text is not None, "asked for only where the recipe reads text"
        wanted = {case.id for case in cases}
        texts = {p.id: p.report for p in _read(path) if p.id in wanted and p.report.strip()}
        encoder = build_text_encoder(recipe.text)
        self.fingerprint = encoder.fingerprint
        # One at a time: which others are encoded here depends on what is left to make.
        self._features = {name: encoder.encode([text])[0] for name, text in texts.items()}

    def features(self, case: Case) -> Tensor | None:
        """Return the features of a prompt; None for one without text."""
        return self._features.get(case.id)


class _Prompt(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$", max_length=100)
    report: str = ""
    label: str | None = None
    spacing_mm: list[float] | None = None


def prompt_cases(recipe: Recipe, facts: ModelFacts) -> list[Case]:
    """Return a case for every prompt of ``sample.prompts``, in the file's order.

    They are of the first split that the recipe samples. A prompt without ``spacing_mm`` takes the
    middle of the range that the model was trained on.

    Raises:
        UserError: Naming every bad line.
    """
    assert recipe.sample.prompts is not None, "asked for only where there is a file"
    usual = _usual_spacing(recipe, facts)
    return [
        Case(
            id=prompt.id,
            patient=f"prompt-{prompt.id}",
            images={},
            label=prompt.label,
            label_source=None if prompt.label is None else "given",
            report_sha256=sha256_bytes(prompt.report.encode()) if prompt.report.strip() else None,
            split=recipe.sample.splits[0],
            extra={"spacing_mm": prompt.spacing_mm or usual},
        )
        for prompt in _read(recipe.sample.prompts)
    ]


def _usual_spacing(recipe: Recipe, facts: ModelFacts) -> list[float]:
    if facts.spacing_mm is None:
        return [1.0] * len(recipe.latent.size)
    pairs = zip(facts.spacing_mm["min"], facts.spacing_mm["max"], strict=True)
    return [round((low + high) / 2, 6) for low, high in pairs]


def _read(path: Path) -> list[_Prompt]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise_if_machine(error)
        raise UserError(
            f"sample.prompts: {path} cannot be read as UTF-8 ({type(error).__name__})",
            legal=f"one object per line: {_LEGAL}",
        ) from None
    prompts: list[_Prompt] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_Prompt.model_validate(json.loads(line)))
        except ValidationError as error:
            fields = {str(item["loc"][0]) for item in _errors(error) if item["loc"]}
            problems.append(f"{path}:{number}: {', '.join(sorted(fields)) or 'not an object'}")
        except json.JSONDecodeError:
            problems.append(f"{path}:{number}: not JSON")
    ids = [prompt.id for prompt in prompts]
    problems += [
        f"{path}: id {name} stands twice" for name in sorted({*ids}) if ids.count(name) > 1
    ]
    if not problems and not prompts:
        problems.append(f"{path}: holds no prompt")
    if problems:
        raise UserError("\n".join(problems), legal=f"one object per line: {_LEGAL}")
    return prompts


def _errors(error: ValidationError) -> list[Any]:
    # Without the input: it is a report.
    return list(error.errors(include_input=False, include_url=False))
