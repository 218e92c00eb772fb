"""What the encoding of reports came to: told to the user, and kept in the stage's record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from voxella.cache.cut_texts import list_cut_texts, told_cut_texts
from voxella.cache.index import INDEX
from voxella.cache.shards import stored_bytes
from voxella.cache.text import CaseText, TextCache
from voxella.case.texts import SYNTHETIC, split_text_id
from voxella.progress import print_line
from voxella.recipe.model import Text
from voxella.wording import human_bytes

__all__ = ["print_text_facts"]


def print_text_facts(
    cache: TextCache, cases: Mapping[str, CaseText], settings: Text
) -> dict[str, Any]:
    """Tell how many reports there are, what was cut and what an encoder did not know.

    Those that were cut are listed in the cache's folder.

    Args:
        cache: The features.
        cases: What the index says about each text, by its id.
        settings: The recipe's ``text`` block.

    Returns:
        The numbers, for the record.
    """
    written = sum(split_text_id(key)[1] == SYNTHETIC for key in cases)
    cases = {key: text for key, text in cases.items() if split_text_id(key)[1] != SYNTHETIC}
    texts = sum(text.has_report for text in cases.values())
    with_report = len({split_text_id(key)[0] for key, text in cases.items() if text.has_report})
    lengths = [cache.length(c, name) for c in cache.ids for name in cache.names(c) or (None,)]
    stored = stored_bytes(cache.folder)
    unknown = [case.unknown for case in cases.values() if case.unknown]
    facts: dict[str, Any] = {
        "cases": len(cache.ids),
        "with_report": with_report,
        "distinct": len({case.key for case in cases.values() if case.has_report}),
        "tokens_longest": max(lengths, default=0),
        "truncated": cache.truncated,
        "unknown": {"reports": len(unknown), "tokens": sum(unknown)},
        "bytes": stored,
        "bytes_per_case": round(stored / len(cache.ids)) if cases else 0,
    }
    print_line(
        f"text: {with_report} of {len(cache.ids)} cases have a report, {facts['distinct']} "
        f"distinct; longest kept {facts['tokens_longest']} tokens; "
        f"{human_bytes(facts['bytes_per_case'])} a case"
    )
    if written:
        print_line(f"text: {written} training cases have a synthetic report, from their metadata")
    counts = {name: text.tokens for name, text in cases.items() if text.has_report}
    listed = list_cut_texts(cache.folder, counts, settings.max_tokens)
    if told := told_cut_texts(counts, settings.max_tokens, settings.truncation, listed):
        print_line(f"text: {told}")
    if unknown:
        print_line(
            f"text: {len(unknown)} of {texts} reports lose words or signs that the encoder "
            f"does not know (<unk>), {sum(unknown)} in all (by case: {cache.folder / INDEX})"
        )
    return facts
