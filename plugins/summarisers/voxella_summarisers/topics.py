"""What a summary of a breast pathology report has to say, and what shows that a statement does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from voxella_summarisers.statements import Statement

__all__ = ["TOPICS", "Topic", "score"]

_SECTION = {
    "diagnosis": 3.0,
    "synoptic": 3.0,
    "comment": 1.5,
    "micro": 1.5,
    "other": 1.0,
    "gross": 0.0,
    "clinical": 0.0,
    "specimen": -2.0,
}
_RESULT = r"positive|negative|amplified|equivocal|[0-3]\s*\+|\d+\s*%|present|absent|identified"


@dataclass(frozen=True)
class Topic:
    """One thing a summary tells.

    Attributes:
        name: Of it.
        about: What a statement about it matches.
        better: What the statement that tells it best matches as well.
        worse: What shows that something else is told.
        most: Statements kept at the most.
    """

    name: str
    about: re.Pattern[str]
    better: re.Pattern[str]
    worse: re.Pattern[str]
    most: int = 1


def _topic(name: str, about: str, better: str, worse: str = r"(?!)", most: int = 1) -> Topic:
    told, best, other = (re.compile(pattern, re.IGNORECASE) for pattern in (about, better, worse))
    return Topic(name, told, best, other, most)


_ELSEWHERE = r"previous|prior|see (?:comment|prior)|outside|biopsy"
# In the order of weight: what comes last is left out where words run short.
TOPICS = (
    _topic(
        "type",
        r"\bcarcinoma\b|tumou?r type|histolog\w+ type|\bmalignan",
        r"(?:invasive|infiltrating).{0,40}carcinoma|carcinoma.{0,30}(?:ductal|lobular|special)",
        r"lymph node|metasta|margin|in situ(?!.{0,40}(?:invasive|infiltrating))|receptor|involv"
        r"|extends|\bher|intraductal|nipple",
    ),
    _topic(
        "grade",
        r"nottingham|differentiated|\bgrade\b|bloom|scarff",
        r"(?:nottingham|histolog\w+) grade|differentiated|grade\s*:?\s*(?:[1-3]|I+)\b|\d\s*/\s*9",
        r"in situ|dcis|intraductal|nuclear grade",
    ),
    _topic(
        "size",
        r"\d(?:\.\d+)?\s*(?:cm|mm)\b",
        r"tumou?r size|greatest dimension|maximum (?:tumou?r )?(?:size|dimension)|size of",
        r"margin|lymph node|metasta|specimen|in situ|dcis|weigh|fragment|skin|ellipse|deposit"
        r"|focus",
    ),
    _topic(
        "nodes",
        r"lymph nodes?|\bnodes?\b|sentinel",
        r"\d+\s*(?:of|/)\s*\d+|metasta|positive|negative|one|two|three",
        r"receiv|submitted|cassette|section|excision:?$|biopsy:?$|grossly",
        most=2,
    ),
    _topic("er", r"estrogen|oestrogen|\bER\b", _RESULT, _ELSEWHERE),
    _topic("pr", r"progesterone|\bPR\b|\bPGR\b", _RESULT, _ELSEWHERE),
    _topic("her2", r"\bher[\s-]*2|c-?erb|\bHER-2", _RESULT, _ELSEWHERE + r"|interpreted|defined"),
    _topic(
        "vessels",
        r"lymphatic invasion|lymphovascular|angiolymphatic|vascular invasion",
        r"present|absent|identified|positive|negative|seen|none",
    ),
    _topic("margins", r"\bmargins?\b", r"negative|positive|involved|free|clear|closest|nearest"),
    _topic("in situ", r"in situ|\bDCIS\b|\bLCIS\b|intraductal", r"present|absent|grade|type"),
    _topic("necrosis", r"necrosis", r"present|absent|tumou?r necrosis"),
    _topic("lymphocytes", r"lymphocyt|lymphoid infiltrate", r"brisk|sparse|prominent|marked"),
)


def score(topic: Topic, statement: Statement, words: int) -> float | None:
    """Return how well a statement tells a topic, higher is better; None where it does not."""
    if not topic.about.search(statement.text):
        return None
    value = _SECTION[statement.section]
    value += 2.5 if topic.better.search(statement.text) else 0.0
    value -= 2.5 if topic.worse.search(statement.text) else 0.0
    # A short statement leaves room for others; of two alike the first is the main specimen's.
    return value - 0.04 * words - 0.002 * statement.place
