"""Texts that are longer than an encoder takes: counted, and listed by id in a file, by one rule."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from voxella.case.texts import split_text_id
from voxella.files import remove, write_text_atomic

__all__ = ["CUT_TEXTS", "cut_end", "cut_texts", "list_cut_texts", "told_cut_texts"]

CUT_TEXTS = "cut_texts.csv"


def cut_end(truncation: str) -> str:
    """Return which end a truncation cuts off."""
    return "beginning" if truncation == "left" else "end"


def cut_texts(tokens: Mapping[str, int], most: int) -> dict[str, int]:
    """Return the tokens of the texts that are cut, by :func:`voxella.case.texts.text_id`.

    Args:
        tokens: Of every text, before truncation.
        most: What the encoder takes.
    """
    return {name: count for name, count in tokens.items() if count > most}


def list_cut_texts(folder: Path, tokens: Mapping[str, int], most: int) -> Path | None:
    """Write ``cut_texts.csv``: ``id`` (of the case), ``text`` (its name), ``tokens``, ``cut``.

    Args:
        folder: Where; a list from before is replaced, or removed where nothing is cut now.
        tokens: As of :func:`cut_texts`.
        most: The same.

    Returns:
        The file; None where no text is cut.
    """
    path = folder / CUT_TEXTS
    cut = cut_texts(tokens, most)
    if not cut:
        remove(path)
        return None
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("id", "text", "tokens", "cut"))
    for name, count in sorted(cut.items()):
        writer.writerow((*split_text_id(name), count, count - most))
    return write_text_atomic(path, lines.getvalue())


def told_cut_texts(
    tokens: Mapping[str, int], most: int, truncation: str, path: Path | None = None
) -> str | None:
    """Return how many texts are cut, by how much and where they are listed; None where none is.

    Args:
        tokens: As of :func:`cut_texts`; at least one.
        most: The same.
        truncation: ``right`` cuts the end, ``left`` the beginning.
        path: Of the list.
    """
    cut = cut_texts(tokens, most)
    if not cut:
        return None
    lost = sum(cut.values()) - most * len(cut)
    where = "" if path is None else f"; all are listed in {path}"
    return (
        f"{len(cut)} of {len(tokens)} reports exceed {most} tokens; {lost} of "
        f"{sum(tokens.values())} tokens are cut from their {cut_end(truncation)}; the longest has "
        f"{max(cut.values())}{where}"
    )
