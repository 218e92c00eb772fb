"""What volumes are generated from: a split's own reports, or prompts.

A prompt is report text: it goes to the text encoder and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from torch import Tensor

from voxella.cache.encode_text import TextEncoding
from voxella.cache.text import TextCache, text_key
from voxella.case import Case
from voxella.engine.runtime import broadcast_object
from voxella.errors import UserError
from voxella.ranks import Ranks
from voxella.recipe.model import Text
from voxella.texts.placeholders import stated

__all__ = ["CachedPrompts", "Prompts", "TextPrompts"]


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


class TextPrompts:
    """Features of texts: from a text cache where it knows the text, else encoded.

    Collective; every process has the same texts. An encoder is loaded for new texts alone, and is
    gone when this returns. Their features go through a cache of the run's own, as reports' do, so
    a prompt's features are rounded like those that the model was trained on.

    Args:
        text: The recipe's ``text`` block.
        prompts: Texts by the id of their case; one that says nothing has no features.
        reports: The cache of the data set's reports.
        own: The cache of texts that are not among them.
        ranks: Who this process is.
    """

    def __init__(
        self, text: Text, prompts: Mapping[str, str], reports: Path, own: Path, ranks: Ranks
    ) -> None:
        texts = {name: words for name, words in prompts.items() if stated(words)}
        cache = _opened(reports, text)
        caches = {} if cache is None else _known(cache, texts)
        new = {name: words for name, words in texts.items() if name not in caches}
        mine = _opened(own, text)
        if new and not broadcast_object(
            mine is not None and _known(mine, new).keys() == new.keys()
        ):
            TextEncoding(text, new, own).run(rank=ranks.rank, world=ranks.world)
            mine = TextCache.open(own, text)
        if new and mine is not None:
            caches |= dict.fromkeys(new, mine)
        fingerprints = {found.fingerprint for found in caches.values()}
        if len(fingerprints) > 1:
            raise UserError(
                f"{own} and {reports} hold features of two text encoders",
                expected="one encoder for the model's reports and for prompts",
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
    return TextCache.open(folder, text) if broadcast_object(found is not None) else None


def _known(cache: TextCache, texts: Mapping[str, str]) -> dict[str, TextCache]:
    """Return the cache by the names of those texts that are in it."""
    mark = cache.fingerprint
    return {name: cache for name, words in texts.items() if text_key(words, mark) in cache}
