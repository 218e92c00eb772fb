"""How many facts of real pathology reports survive their summaries.

``python bench/summary_facts.py FOLDER [WORDS]`` where FOLDER holds ``text/NAME.txt`` and
``annotation/NAME_annotation.json``: human annotations of type, grade, size, nodes and receptors.
Prints counts alone, never a word of a report. A fact counts where this script finds it in the whole
report: what nobody could find there by these rules is no fault of the summary.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Report, Summariser

Fact = tuple[str, Callable[[str], bool]]

_TYPES = {
    "no_special_type": r"ductal|no special type|\bNST\b|\bNOS\b",
    "lobular": r"lobular",
    "mucinous": r"mucinous|colloid",
    "medullary": r"medullary",
    "metaplastic": r"metaplas",
    "tubular": r"tubular carcinoma",
    "papillary": r"papillary",
    "apocrine": r"apocrine",
}
_GRADES = {
    1: r"well[\s-]+differ|\bgrade\s*:?\s*(?:1|I)\b(?!\s*I)|\bI\s*/\s*III\b|\bG1\b|low grade",
    2: r"moderate(?:ly)?[\s-]+differ|\bgrade\s*:?\s*(?:2|II)\b|\bII\s*/\s*III\b|\bG2\b"
    r"|intermediate grade",
    3: r"poor(?:ly)?[\s-]+differ|\bgrade\s*:?\s*(?:3|III)\b|\bIII\s*/\s*III\b|\bG3\b|high grade",
}
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_GOOD, _BAD = r"(?:positive|strong|reactive|\+)", r"(?:negative|not\s+detect|absent|\b0\s*%)"


def facts(annotation: dict[str, Any]) -> Iterator[Fact]:
    """Yield the kind of each annotated fact, and what tells whether a text has it."""
    found = annotation.get("cancer_data") or {}
    histology = str(found.get("histology") or "")
    for part, pattern in _TYPES.items():
        if part in histology:
            yield "type", _has(pattern)
    if found.get("grade") in _GRADES:
        yield "grade", _has(_GRADES[found["grade"]])
    if found.get("tumor_size"):
        millimetres = float(found["tumor_size"])
        yield "size", _has(rf"(?<![\d.]){_number(millimetres / 10)}\s*cm|\b{millimetres:g}\s*mm")
    if found.get("regional_lymph_node"):
        yield "nodes", _nodes(found["regional_lymph_node"])
    for marker in found.get("biomarkers") or ():
        if (fact := _receptor(marker)) is not None:
            yield fact


def _has(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda text: compiled.search(text) is not None


def _number(value: float) -> str:
    """Return a pattern of 2.0 that also takes 2."""
    whole = rf"{value:g}".replace(".", r"\.")
    return rf"{whole}(?:\.0)?" if value == int(value) else rf"{whole}0?"


def _nodes(stations: list[dict[str, Any]]) -> Callable[[str], bool]:
    involved = sum(int(s.get("involved") or 0) for s in stations)
    examined = sum(int(s.get("examined") or 0) for s in stations)
    if involved == 0:
        return _has(
            r"(?:nodes?\b.{0,60}(?:negative|benign|no |free|uninvolved)|"
            r"(?:negative|benign|no )[^;.]{0,60}nodes?\b|\b0\s*(?:of|/)\s*\d)"
        )
    pairs = {(involved, examined)} | {
        (int(s["involved"]), int(s["examined"]))
        for s in stations
        if s.get("involved") and s.get("examined")
    }
    counted = "|".join(rf"\b{a}\s*(?:of|/|out of)\s*{b}\b" for a, b in sorted(pairs))
    named = "|".join(
        rf"\b(?:{_COUNTS[a] if a < len(_COUNTS) else a}|{a})\b[^;]{{0,60}}(?:positive|metasta)"
        rf"|(?:positive|metasta)[^;]{{0,60}}\b(?:{_COUNTS[a] if a < len(_COUNTS) else a}|{a})\b"
        for a, _ in sorted(pairs)
    )
    return _has(f"{counted}|{named}")


def _receptor(marker: dict[str, Any]) -> Fact | None:
    name, expressed, score = (
        marker.get("biomarker_category"),
        marker.get("expression"),
        marker.get("score"),
    )
    if name in ("er", "pr") and expressed is not None:
        spelt = r"(?:estrogen|\bER\b)" if name == "er" else r"(?:progesterone|\bPG?R\b)"
        return str(name), _has(rf"{spelt}[^;.]{{0,60}}{_GOOD if expressed else _BAD}")
    if name == "her2" and (score is not None or expressed is not None):
        positive = expressed if expressed is not None else int(score or 0) >= 3
        amplified = r"(?:positive|\b3\s*\+|(?<!not )amplified)"
        none = r"(?:negative|\b[01]\s*\+|not\s+amplified|\b2\s*\+|equivocal)"
        return "her2", _has(rf"(?:her[\s-]*2|erb)[^;]{{0,80}}{amplified if positive else none}")
    return None


def survival(folder: Path, words: int = 75) -> dict[str, tuple[int, int, int]]:
    """Return by kind of fact: annotated, found in the whole report, found in the summary too."""
    component = Component(name="extractive", words=words)
    summarise: Summariser = registry.build("summarisers", component)
    counts: dict[str, tuple[int, int, int]] = {}
    for path in sorted((folder / "annotation").glob("*_annotation.json")):
        name = path.name.removesuffix("_annotation.json")
        report = (folder / "text" / f"{name}.txt").read_text(encoding="utf-8")
        report = report.partition("text:")[2] or report
        (summary,) = summarise([Report(name, report)])
        assert len(summary.split()) <= words
        for kind, tells in facts(json.loads(path.read_text(encoding="utf-8"))):
            annotated, whole, kept = counts.get(kind, (0, 0, 0))
            there = tells(" ".join(report.split()))
            survives = there and tells(summary)
            counts[kind] = (annotated + 1, whole + there, kept + survives)
    return counts


def main(arguments: list[str]) -> int:
    """Print the table."""
    if len(arguments) not in (1, 2):
        print(__doc__)
        return 2
    counts = survival(Path(arguments[0]), int(arguments[1]) if len(arguments) == 2 else 75)
    print(f"{'fact':<8}{'annotated':>10}{'in report':>10}{'in summary':>11}")
    totals = tuple(sum(row[n] for row in counts.values()) for n in range(3))
    for kind, (annotated, whole, kept) in [*counts.items(), ("all", totals)]:
        print(f"{kind:<8}{annotated:>10}{whole:>10}{kept:>11}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
