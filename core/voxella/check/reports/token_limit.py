"""What a text encoder loses of reports: what is beyond its limit, and unknown words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voxella.cache.cut_texts import cut_end, cut_texts, list_cut_texts, told_cut_texts
from voxella.check.finding import Finding
from voxella.check.kinds_texts import text_finding
from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.plugins.contracts import TextEncoder, unknown_counts

__all__ = ["check_token_limit"]

_AT_A_TIME = 64


def check_token_limit(
    texts: Mapping[str, str],
    encoder: TextEncoder,
    max_tokens: int,
    truncation: str,
    folder: Path | None = None,
) -> list[Finding]:
    """Count tokens and report every case whose report is cut or loses words, and how much in all.

    Args:
        texts: Report by case id.
        encoder: Counts tokens.
        max_tokens: The most it encodes.
        truncation: ``right`` cuts the end, ``left`` the beginning.
        folder: Where those that are cut are listed; None: nowhere.
    """
    counts, findings = _counts(texts, encoder)
    findings += _unknown_words({case: texts[case] for case in counts}, encoder, counts)
    end = cut_end(truncation)
    for case, count in cut_texts(counts, max_tokens).items():
        cut = count - max_tokens
        problem = f"{cut} of {count} tokens ({cut / count:.0%}) are cut from the report's {end}"
        findings.append(text_finding("report.truncated", problem, case, "report"))
    path = None if folder is None else list_cut_texts(folder, counts, max_tokens)
    if told := told_cut_texts(counts, max_tokens, truncation, path):
        findings.append(text_finding("report.truncated", told))
    return findings


def _unknown_words(
    texts: Mapping[str, str], encoder: TextEncoder, tokens: Mapping[str, int]
) -> list[Finding]:
    """Name the reports of which words become ``<unk>``; nothing where an encoder does not tell."""
    names = list(texts)
    unknown: dict[str, int] = {}
    for start in range(0, len(names), _AT_A_TIME):
        batch = names[start : start + _AT_A_TIME]
        unknown |= zip(batch, unknown_counts(encoder, [texts[name] for name in batch]), strict=True)
    lossy = {case: number for case, number in unknown.items() if number}
    findings = [
        text_finding(
            "report.unknown-words",
            f"{number} of {tokens[case]} tokens stand for words or signs that are unknown",
            case,
            "report",
        )
        for case, number in lossy.items()
    ]
    if lossy:
        problem = (
            f"{len(lossy)} of {len(texts)} reports lose words or signs that the text encoder does "
            f"not know, {sum(lossy.values())} in all"
        )
        findings.append(text_finding("report.unknown-words", problem))
    return findings


def _counts(texts: Mapping[str, str], encoder: TextEncoder) -> tuple[dict[str, int], list[Finding]]:
    """Count in batches; where a batch fails, one by one, so that the failing case is known."""
    counts: dict[str, int] = {}
    findings: list[Finding] = []
    names = list(texts)
    for start in range(0, len(names), _AT_A_TIME):
        batch = names[start : start + _AT_A_TIME]
        found = _count(encoder, [texts[name] for name in batch])
        if isinstance(found, list):
            counts.update(zip(batch, found, strict=True))
            continue
        for name in batch:
            single = _count(encoder, [texts[name]])
            if isinstance(single, list):
                counts[name] = single[0]
            else:
                problem = f"the text encoder failed to count its report's tokens ({single})"
                findings.append(text_finding("report.tokens", problem, name, "report"))
    return counts, findings


def _count(encoder: TextEncoder, texts: list[str]) -> list[int] | str:
    """Return the counts, or the name of the exception: its message may quote a report."""
    try:
        counts = [int(count) for count in encoder.token_counts(texts)]
    except UserError:
        raise
    except Exception as error:
        raise_if_machine(error)
        return type(error).__name__
    return counts if len(counts) == len(texts) else "wrong number of counts"
