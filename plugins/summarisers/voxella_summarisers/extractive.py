"""A summary made of the report's own statements: no model, the same words every time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from voxella.plugins.contracts import Report
from voxella_summarisers.statements import Statement, statements
from voxella_summarisers.topics import TOPICS, Topic, score

__all__ = ["ExtractiveSummariser", "summarise"]

# Raise this whenever the same report gives another summary.
_GENERATION = 1

_LONGEST = 22  # words of one statement
_LEAST = 1.0  # of a score
_ASIDE = re.compile(
    r"\((?:measured|please|see|slide|gross|from|performed|parts?|prepared)[^)]*\)?|"
    r",?\s*measured (?:grossly|microscopically)|\bcontinued\b|\s+:(?=\s)",
    re.IGNORECASE,
)


@dataclass
class ExtractiveSummariser:
    """The summariser behind its contract."""

    words: int

    def __post_init__(self) -> None:
        self.fingerprint = f"extractive {_GENERATION} {self.words}"

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        """Return one summary per report."""
        return [summarise(r.text, words=self.words, variant=variant) for r in reports]


def summarise(report: str, *, words: int = 75, variant: int = 0) -> str:
    """Return a summary of a report.

    For each topic (type, grade, size, nodes, receptors, ...) the statement that tells it best,
    by section and wording, until the words are used up; a report that tells none of them is
    summarised by the statements whose words are most frequent in it.

    Args:
        report: The whole text.
        words: At most.
        variant: 0 takes the topics in order of weight; another one lets what weighs less come in
            another order, so that where words run short another part is left out.
    """
    found = statements(report)
    chosen = _by_topic(found, words, variant) or _by_frequency(found, words)
    return "; ".join(text for _, text in chosen)


def _by_topic(found: list[Statement], words: int, variant: int) -> list[tuple[int, str]]:
    chosen: dict[int, str] = {}
    left = words
    told: set[str] = set()
    for topic in _ordered(variant):
        already = [text for text in chosen.values() if _tells(topic, text)]
        if already and topic.most == 1:
            told.add(topic.name)
            continue
        for statement, text in _ranked(topic, found)[: topic.most]:
            cost = len(text.split())
            if statement.place in chosen or cost > left or text in chosen.values():
                continue
            chosen[statement.place] = text
            told.add(topic.name)
            left -= cost
    return [(place, chosen[place]) for place in chosen] if told else []


def _ordered(variant: int) -> list[Topic]:
    first, rest = list(TOPICS[:7]), list(TOPICS[7:])
    turn = variant % len(rest)
    return [*first, *rest[turn:], *rest[:turn]]


def _tells(topic: Topic, text: str) -> bool:
    about = topic.about.search(text) and topic.better.search(text)
    return bool(about) and not topic.worse.search(text)


def _ranked(topic: Topic, found: list[Statement]) -> list[tuple[Statement, str]]:
    """Return the statements on a topic, the best first, shortened."""
    scored = []
    for statement in found:
        text = _short(topic, statement.text)
        value = score(topic, Statement(text, statement.section, statement.place), _count(text))
        if value is not None and value >= _LEAST:
            scored.append((-value, statement.place, statement, text))
    return [(statement, text) for _, _, statement, text in sorted(scored, key=lambda s: s[:2])]


def _short(topic: Topic, text: str) -> str:
    """Return a statement without asides, in small letters, cut around what it says of the topic."""
    plain = " ".join(_ASIDE.sub(" ", text).split()).strip(" -.,;:")
    parts = plain.split()
    if len(parts) > _LONGEST:
        before = topic.about.search(plain)
        begin = len(plain[: before.start()].split()) if before else 0
        begin = max(0, min(begin - 4, len(parts) - _LONGEST))
        parts = parts[begin : begin + _LONGEST]
    return " ".join(parts).lower()


def _count(text: str) -> int:
    return len(text.split())


def _by_frequency(found: list[Statement], words: int) -> list[tuple[int, str]]:
    """Return the statements whose longer words are most frequent, in the order of the report."""
    split = [re.findall(r"[a-z]{4,}", statement.text.lower()) for statement in found]
    counts = Counter(word for words_of in split for word in set(words_of))
    weight = {
        number: sum(counts[word] for word in set(words_of)) / (len(words_of) + 3)
        for number, words_of in enumerate(split)
    }
    chosen: list[tuple[int, str]] = []
    left = words
    for number in sorted(weight, key=lambda n: (-weight[n], n)):
        text = " ".join(found[number].text.split()).lower()
        if _count(text) <= left:
            chosen.append((number, text))
            left -= _count(text)
    if not chosen and found:
        chosen = [(0, " ".join(found[0].text.lower().split()[:words]))]
    return sorted(chosen)
