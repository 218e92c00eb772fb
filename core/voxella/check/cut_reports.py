"""Reports that another system has cut: many of one greatest length, or of a limit's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding

__all__ = ["check_cut"]

# Columns of databases, cells of Excel and of old spreadsheets hold that many characters or bytes.
_LIMITS = frozenset(
    {255, 256, 512, 1000, 1024, 2000, 2048, 4000, 4096, 8000, 8192, 16_384, 32_767, 32_768}
)
_LONG = 200
_SAME = 3


def check_cut(texts: Mapping[str, str]) -> list[Finding]:
    """Name reports that end where a system's limit lies.

    They end within a sentence, and either have as many characters or bytes as a known limit, or
    several different ones are exactly as long as the longest.
    """
    lengths = {case: len(text) for case, text in texts.items()}
    longest = max(lengths.values(), default=0)
    broken = {case: text for case, text in texts.items() if text[-1:].isalnum()}
    distinct = Counter(len(text) for text in {*broken.values()})
    shared = longest >= _LONG and distinct[longest] >= _SAME
    findings = []
    for case, text in broken.items():
        sizes = {len(text), len(text.encode()), len(text.encode("utf-16-le")) // 2}
        if shared and lengths[case] == longest:
            problem = (
                f"its report has {longest} characters, as the {distinct[longest]} longest all have"
            )
        elif sizes & _LIMITS:
            problem = f"its report ends within a sentence after {lengths[case]} characters"
        else:
            continue
        findings.append(text_finding("report.cut", problem, case, "report"))
    return findings
