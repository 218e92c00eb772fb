"""What of a user's values may be shown, and how: one rule for messages, manifests and recipes.

A report comes in where nobody expects it: in the wrong column of a table, as a key, as a file's
name. So a value is shown only where it cannot be a sentence, and kept in a manifest only as a code.
And whatever is shown cannot steer the terminal: control characters are spelled out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["LONGEST_CODE", "MOST_WORDS", "quoted", "quoted_list", "visible", "why_no_code"]

LONGEST_CODE = 64
MOST_WORDS = 4  # "Gleason 3 + 4" is a class, not a sentence
# What is quoted in a message is seen by more people than a manifest.
_LONGEST_QUOTED = 40
_LONGEST_LIST = 60
# Joiners of letters: words of Persian and Hindi are wrong without them.
_JOINERS = "\u200c\u200d"
# Scripts that write no blank between words; some of their words are one letter, most are two.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_LETTERS_A_WORD = 4


def visible(text: str) -> str:
    r"""Return text with what cannot be seen spelled out, as ``\u001b``; line ends and tabs stay.

    Those are control characters, which steer a terminal, and marks that turn the direction of
    writing, which make a line read as another.
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_visible(letter) else _spelled(letter) for letter in text)


def why_no_code(
    value: str, *, longest: int = LONGEST_CODE, most_words: int = MOST_WORDS
) -> str | None:
    """Return why a value is no code (an id, a label, a site), but may be free text; else None.

    Args:
        value: Never quoted in the answer.
        longest: Characters that it may have.
        most_words: Words that it may have.
    """
    if not value.strip():
        return "is empty"
    if len(value.splitlines()) > 1:
        return "has several lines"
    if len(value) > longest:
        return f"has {len(value)} characters, at most {longest} are legal"
    if visible(value) != value or "\t" in value:
        return "holds characters that cannot be seen"
    if (words := _words(value)) > most_words:
        return f"has {words} words, at most {most_words} are legal"
    return None


def quoted(value: object) -> str:
    """Return a value as a message shows it: short, and only how much where it may be free text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 100:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str):
        blank = value == "" or why_no_code(value, longest=_LONGEST_QUOTED, most_words=1) is None
        return repr(value) if blank else f"text of {len(value)} characters"
    if isinstance(value, list | tuple):
        shown = f"[{', '.join(quoted(item) for item in value[:_LONGEST_LIST])}]"
        return shown if len(shown) <= _LONGEST_LIST else f"a list of {len(value)}"
    if isinstance(value, dict):
        pairs = ", ".join(f"{quoted(key)}: {quoted(item)}" for key, item in value.items())
        return f"{{{pairs}}}" if len(pairs) <= _LONGEST_LIST else f"a block of {len(value)} keys"
    return quoted(str(value)) if not isinstance(value, float | int) else repr(value)


def quoted_list(values: Iterable[object]) -> str:
    """Return values as a message lists them."""
    return ", ".join(quoted(value) for value in values)


def _is_visible(letter: str) -> bool:
    if letter in "\n\t" or letter in _JOINERS or letter.isprintable():
        return True
    return unicodedata.category(letter) == "Zs"


def _spelled(letter: str) -> str:
    number = ord(letter)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _words(value: str) -> int:
    unspaced = sum(unicodedata.name(letter, "").startswith(_UNSPACED) for letter in value)
    return len(value.split()) + unspaced // _LETTERS_A_WORD
