"""Text that was once read in a wrong encoding, escaped twice, or lost letters on the way.

Text is never fixed here: that would be a guess. Where it seems to be wrong is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["find_garbled"]

_RUN = re.compile(r"[^\x00-\x7f]{2,}")
# What UTF-8 is wrongly read in: Western, Central European, Cyrillic, old DOS and Mac files.
_SINGLE = ("cp1252", "latin-1", "cp1250", "cp1251", "koi8-r", "cp437", "cp850", "mac_roman")
_DOUBLE = ("gb18030", "cp932", "cp949", "big5")
# Chance makes UTF-8 of two letters of these, but hardly of so many.
_DOUBLE_RUN = 4
_LOWER = "[a-zß-öø-ÿ]"
# Quotation marks, daggers, currency and other signs of windows-1252, by number: some look alike.
_SIGNS = (
    "\u201e\u201c\u201d\u201a\u0192\u2020\u2021\u02c6\u2030\u2039\u203a\u2022\u02dc\u2122"
    "\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xac\xae\xaf\xb1\xb6\xb8\xb9\xbb\xab\xbf"
)
_PATTERNS = re.compile(
    r"[\ufffd\ue000-\uf8ff\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]"  # lost, private, control
    # Cyrillic, Chinese or Japanese read as Latin-1: no language writes such rows
    r"|(?=[\xa1-\xff]*[À-ÖØ-öø-ÿ][\xa1-\xff]*[À-ÖØ-öø-ÿ])[\xa1-\xff]{4,}"
    # old DOS or Central European letters read as windows-1252: signs within a word
    # the letters by which ISO-8859-15 differs from windows-1252: oe within and before, the euro
    rf"|(?<=[^\W\d_])[\xbc\xbd\xbe](?={_LOWER})|(?<!\w)[\xbc\xbd](?=uf|uv|d[eéè]|so|str)|¤"
    # UTF-7: +AOQ- is ä
    r"|\+A[MNOP][AEIMQUYcgkosw048]-"
    rf"|(?<=[^\W\d_])[{_SIGNS}](?={_LOWER})|(?<!\w)[¶¿±³](?={_LOWER}{{2}})"
    rf"|(?<=[^\W\d_])\?{{1,3}}(?={_LOWER})|\?{{4,}}"  # letters that an encoding had no place for
    r"|&(?:nbsp|amp|lt|gt|quot|apos|[aeiouAEIOU](?:uml|acute|grave|circ)|szlig|ccedil|ntilde"
    r"|#\d{2,5}|#x[0-9a-fA-F]{2,5});"
    r"|(?:=[C-F][0-9A-F]=[89AB][0-9A-F])+|(?:%[C-F][0-9A-F]%[89AB][0-9A-F])+"
    r"|\\u[0-9a-fA-F]{4}|_x000[0-9A-Fa-f]_|\\[nr](?=\\|[A-ZÀ-Þ]|\s|$)|~\{[!-~]{2,80}~\}"
)


_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff66-\uff9f]")
_IDEOGRAPHS = re.compile(f"{_IDEOGRAPH.pattern}+")
_SMALL = re.compile("[a-z]")
# Text in Latin letters has many more of them.
_LATIN_RATIO = 5
_LONE = 2


def find_garbled(text: str) -> list[tuple[int, int]]:
    """Return where garbled or control characters stand, in characters, in order."""
    if text.isascii() and not _PATTERNS.search(text):
        return []
    found = {match.span() for match in _PATTERNS.finditer(text)}
    places = sorted({*_read_wrongly(text), *_lone_ideographs(text), *found})
    kept: list[tuple[int, int]] = []
    for start, end in places:
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def _lone_ideographs(text: str) -> Iterator[tuple[int, int]]:
    """Yield ideographs within words of Latin letters: Central European bytes read as Chinese.

    Where the text is Chinese itself, an ideograph may stand beside an abbreviation.
    """
    places = [match.span() for match in _IDEOGRAPHS.finditer(text)]
    if len(_SMALL.findall(text)) < _LATIN_RATIO * sum(end - start for start, end in places):
        return
    for start, end in places:
        beside = text[max(start - 1, 0) : start] + text[end : end + 1]
        if end - start <= _LONE and _SMALL.search(beside):
            yield start, end


def _read_wrongly(text: str) -> Iterator[tuple[int, int]]:
    """Yield runs of letters that are UTF-8 once they are bytes again."""
    for match in _RUN.finditer(text):
        run = match[0]
        codecs = (*_SINGLE, *(_DOUBLE if len(run) >= _DOUBLE_RUN else ()))
        if any(_is_utf8(run, codec) for codec in codecs):
            yield match.span()


def _is_utf8(run: str, codec: str) -> bool:
    try:
        return len(_bytes(run, codec).decode("utf-8")) < len(run)
    except UnicodeError:
        return False


def _bytes(run: str, codec: str) -> bytes:
    if codec != "cp1252":
        return run.encode(codec)
    # Windows keeps the five bytes that it has no character for.
    return b"".join(c.encode("latin-1" if "\x80" <= c <= "\x9f" else codec) for c in run)
