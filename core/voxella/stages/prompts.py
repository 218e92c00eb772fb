"""What volumes are generated from: a split's own reports, or a file of prompts.

A prompt is report text: it goes to the text encoder and nowhere else. Messages name lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from voxella.cache.text import TextCache, text_key
from voxella.case import Case
from voxella.engine.ranks import Ranks
from voxella.engine.runtime import agreed
from voxella.errors import UserError
from voxella.export import ModelFacts
from voxella.files import sha256_bytes
from voxella.machine import raise_if_machine
from voxella.recipe.model import Recipe, Text
from voxella.stages.encode_text import TextEncoding

__all__ = ["CachedPrompts", "FilePrompts", "Prompts", "prompt_cases"]

_LEGAL = '{"id": "a1", "report": "...", "label": "positive", "spacing_mm": [0.5, 0.5, 0.75]}'


class Prompts(Protocol):
    """Token features by case."""

    fingerprint: str | None  # None where no case has a text

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
        self.fingerprint: str | None = cache.fingerprint

    def features(self, case: Case) -> Tensor | None:
        """Return the cached features of a case's report."""
        return self._cache.read(case.id)[0]


class FilePrompts:
    """Features of the prompts of a file: from a text cache where it knows the text, else encoded.

    Collective; every process reads the same file. An encoder is loaded for new texts alone, and is
    gone when this returns. Their features go through a cache of the run's own, as reports' do, so
    a prompt's features are rounded like those that the model was trained on.

    Args:
        text: The recipe's ``text`` block.
        path: The file.
        reports: The cache of the data set's reports.
        own: The cache of texts that are not among them.
        ranks: Who this process is.
    """

    def __init__(self, text: Text, path: Path, reports: Path, own: Path, ranks: Ranks) -> None:
        texts = {prompt.id: prompt.report for prompt in _read(path) if prompt.report.strip()}
        cache = _opened(reports, text)
        caches = {} if cache is None else _known(cache, texts)
        new = {name: words for name, words in texts.items() if name not in caches}
        mine = _opened(own, text)
        if new and not agreed(mine is not None and _known(mine, new).keys() == new.keys()):
            TextEncoding(text, new, own).run(rank=ranks.rank, world=ranks.world)
            mine = TextCache.open(own, text)
        if new and mine is not None:
            caches |= dict.fromkeys(new, mine)
        fingerprints = {found.fingerprint for found in caches.values()}
        if len(fingerprints) > 1:
            raise UserError(
                f"{own} and {reports} hold features of two text encoders",
                legal="one encoder for the model's reports and for prompts",
                remedy=f"name the encoder of the reports in text.encoder, then: rm -r {own}",
            )
        self.fingerprint = next(iter(fingerprints), None)
        self._where = {
            name: (found, text_key(texts[name], found.fingerprint))
            for name, found in caches.items()
        }

    def features(self, case: Case) -> Tensor | None:
        """Return the features of a prompt; None for one without text."""
        if case.id not in self._where:
            return None
        cache, key = self._where[case.id]
        return cache.read_text(key)


def _opened(folder: Path, text: Text) -> TextCache | None:
    """Return the cache of a recipe's ``text`` block where there is one; collective."""
    found = None
    with suppress(UserError):
        found = TextCache.open(folder, text)
    # Over a network another process may see it later: all open it, or none.
    return TextCache.open(folder, text) if agreed(found is not None) else None


def _known(cache: TextCache, texts: Mapping[str, str]) -> dict[str, TextCache]:
    """Return the cache by the names of those texts that are in it."""
    mark = cache.fingerprint
    return {name: cache for name, words in texts.items() if text_key(words, mark) in cache}


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
