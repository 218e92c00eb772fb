"""PI-RADS as a report states it, read by rules that would rather say nothing than guess.

What it finds is a reason to look at a case, never to change a label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from voxella.check.pirads.context import Context, Verdict
from voxella.check.pirads.legend import find_legends
from voxella.check.pirads.mentions import Mention, Score, find_mentions

__all__ = ["POSITIVE_FROM", "PiradsReading", "Score", "read_pirads"]

# The paper's rule: a highest category of 3 and more is positive.
POSITIVE_FROM = 3
# A report that states more different categories than this is likely to explain the scale.
_MOST_DIFFERENT = 3
# A score of 3 and more that does not name PI-RADS and may be one: "second lesion: score 4".
_NAMELESS = re.compile(
    r"(?<![^\W_])(?:scor(?:es?|ed|ing)|categor(?:y|ie)|kategorie|likert)\s?(?:as\s|van\s|von\s)?[:=]?\s?"
    r"[3-5](?![^\W_]|\s?\+|[.,]\d)",
    re.I,
)
_OF_ANOTHER_KIND = re.compile(
    r"(?:gleason|isup|precise|pi-?qual|qualit\w*|t2w?i?|dwi|dce|adc|pain|pijn)\W{0,3}\w{0,8}\W{0,3}$",
    re.I,
)


@dataclass(frozen=True)
class PiradsReading:
    """What a report says. Holds offsets and numbers, no text.

    Attributes:
        scores: The categories it states for this examination, in order, with character ranges.
        highest: The highest of them, None where there is none.
        certain: Whether it is sure on which side of 3 the examination's highest category lies.
        doubtful: Mentions that were put aside: bounds, earlier examinations, conditions, questions.
    """

    scores: tuple[Score, ...]
    highest: int | None
    certain: bool
    doubtful: int

    @property
    def positive(self) -> bool | None:
        """Return whether the report is positive; None where that is not certain."""
        if not self.certain or self.highest is None:
            return None
        return self.highest >= POSITIVE_FROM


def read_pirads(text: str) -> PiradsReading:
    """Read the PI-RADS categories that a report states, in English, Dutch or German.

    A stated category of 3 and more decides alone. Below 3 is certain only where nothing that was
    put aside could be 3 or more. An explanation of the scale counts for nothing.
    """
    mentions = find_mentions(text)
    legends = find_legends(text, mentions)
    context = Context(text)
    stated: list[Score] = []
    aside: list[Mention] = []
    for index, mention in enumerate(mentions):
        if index in legends.entries or not (mention.scores or mention.doubt):
            continue
        verdict = context.judge(mention) if mention.scores else Verdict.DOUBTFUL
        if verdict is Verdict.DOUBTFUL or (index in legends.maybe):
            aside.append(mention)
        elif verdict is Verdict.STATED:
            stated += mention.scores
    highest = max((score.value for score in stated), default=None)
    certain = highest is not None and len({s.value for s in stated}) <= _MOST_DIFFERENT
    if highest is not None and highest < POSITIVE_FROM:
        certain = certain and not any(_may_be_positive(mention) for mention in aside)
        certain = certain and not _has_nameless(text, mentions)
    return PiradsReading(tuple(stated), highest, certain, len(aside))


def _may_be_positive(mention: Mention) -> bool:
    return mention.highest is None or mention.doubt or mention.highest >= POSITIVE_FROM


def _has_nameless(text: str, mentions: list[Mention]) -> bool:
    """Return whether a score of 3 and more stands somewhere without the name PI-RADS."""
    for match in _NAMELESS.finditer(text):
        named = any(mention.start <= match.start() < mention.end for mention in mentions)
        if not named and not _OF_ANOTHER_KIND.search(
            text[max(0, match.start() - 24) : match.start()]
        ):
            return True
    return False
