"""What of a user's values may be shown, and how: one rule for messages, manifests and recipes.

A report comes in where nobody expects it: in the wrong column of a table, as a key, as a file's
name. So a value is shown only where it cannot be a sentence, and kept in a manifest only as a code.
And whatever is shown cannot steer the terminal: control characters are spelled out.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath

__all__ = [
    "LONGEST_CODE",
    "LONGEST_NAME",
    "MOST_WORDS",
    "MOST_WORDS_OF_NAME",
    "counted",
    "human_bytes",
    "listed",
    "named",
    "named_list",
    "quoted",
    "shown_path",
    "unquoted",
    "visible",
    "why_no_code",
    "why_no_name",
    "why_sentence",
    "without_sentences",
]

LONGEST_CODE = 64
MOST_WORDS = 4  # "Gleason 3 + 4" is a class, not a sentence
# A file's or a scanner's name, which a manifest keeps: "T2 TSE axial 3 mm (2).nii.gz".
LONGEST_NAME = 128
MOST_WORDS_OF_NAME = 8
# What is quoted in a message is seen by more people than a manifest.
_LONGEST_QUOTED = 40
_LONGEST_LIST = 60
# Joiners of letters: words of Persian and Hindi are wrong without them.
_JOINERS = "\u200c\u200d"
# Scripts that write no blank between words; some of their words are one letter, most are two.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
_LETTERS_A_WORD = 4
_LISTED = 50


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
    if (why := why_sentence(value, longest=longest, most_words=most_words)) is not None:
        return why
    if visible(value) != value or "\t" in value:
        return "holds characters that cannot be seen"
    return None


def why_sentence(
    value: str, *, longest: int = LONGEST_CODE, most_words: int = MOST_WORDS
) -> str | None:
    """Return why a value may be free text, or None; what else is odd about it does not count.

    Args:
        value: Never quoted in the answer.
        longest: Characters that it may have.
        most_words: Words that it may have.
    """
    if "\n" in value or "\r" in value:
        return "has several lines"
    if len(value) > longest:
        return f"has {len(value)} characters, at most {longest} are allowed"
    if (words := _words(value)) > most_words:
        return f"has {words} words, at most {most_words} are allowed"
    return None


def why_no_name(value: str) -> str | None:
    """Return why the name of a file or a machine may be free text; else None."""
    return why_sentence(value, longest=LONGEST_NAME, most_words=MOST_WORDS_OF_NAME)


def named(text: str, *, most_words: int = MOST_WORDS) -> str:
    """Return a key or a column's name as a message shows it; of what may be a sentence its size."""
    bare = text == "" or why_no_code(text, most_words=most_words) is None
    return text if bare else _size(text)


def named_list(texts: Iterable[str]) -> str:
    """Return keys or columns' names as a message lists them."""
    return ", ".join(named(text) for text in texts)


def shown_path(path: str | PurePath, *, most_words: int = MOST_WORDS_OF_NAME) -> str:
    """Return a path that somebody wrote as a message shows it.

    Parts that are there are names, whatever they are. Of the others, those that may be sentences
    are given by their size.

    Args:
        path: As written; never read, only looked for.
        most_words: Words that the name of one part may have.
    """
    whole = Path(path)
    shown = list(whole.parts)
    for index in range(len(shown) - 1, -1, -1):
        if os.path.lexists(Path(*whole.parts[: index + 1])):
            break
        if why_sentence(shown[index], longest=LONGEST_NAME, most_words=most_words) is not None:
            shown[index] = _size(shown[index])
    return str(Path(*shown)) if shown else str(path)


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
        return repr(value) if blank else _size(value)
    if isinstance(value, list | tuple):
        shown = f"[{', '.join(quoted(item) for item in value[:_LONGEST_LIST])}]"
        return shown if len(shown) <= _LONGEST_LIST else f"a list of {len(value)}"
    if isinstance(value, dict):
        pairs = ", ".join(f"{quoted(key)}: {quoted(item)}" for key, item in value.items())
        return f"{{{pairs}}}" if len(pairs) <= _LONGEST_LIST else f"a block of {len(value)} keys"
    return quoted(str(value)) if not isinstance(value, float | int) else repr(value)


def _size(text: str) -> str:
    return f"text of {len(text)} characters"


def unquoted(message: str | None) -> str:
    """Return a library's message; of what it quotes, only what cannot be a sentence."""
    return re.sub(r"'(.*)'", lambda found: quoted(found[1]), message or "", flags=re.DOTALL)


def without_sentences(message: str, words: Iterable[str]) -> str:
    """Return a message in which no word of the command that may be free text is repeated.

    Args:
        message: What is to be said.
        words: Of the command line. Paths that are there are names, whatever they are.
    """
    values = {part for word in words for part in (word, word.partition("=")[2]) if part}
    for value in sorted(values, key=len, reverse=True):
        told = shown_path(value, most_words=MOST_WORDS)
        if told == str(Path(value)):
            continue
        # As it is, as a message prints it, and as its Python literal.
        for form in (value, str(Path(value)), visible(value), repr(value)[1:-1]):
            message = message.replace(form, told)
    return message


def _is_visible(letter: str) -> bool:
    if letter in "\n\t" or letter in _JOINERS or letter.isprintable():
        return True
    return unicodedata.category(letter) == "Zs"


def _spelled(letter: str) -> str:
    number = ord(letter)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _words(value: str) -> int:
    if value.isascii():
        return len(value.split())
    unspaced = sum(unicodedata.name(letter, "").startswith(_UNSPACED) for letter in value)
    return len(value.split()) + unspaced // _LETTERS_A_WORD


def listed(names: Iterable[str], most: int = _LISTED) -> str:
    """Return names for a message: the first ``most`` of them, and how many more there are."""
    every = list(names)
    shown = ", ".join(every[:most])
    more = len(every) - most
    return shown if more <= 0 else f"{shown} and {more} more"


def human_bytes(count: int) -> str:
    """Return a size as people read it: ``8.4 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where there is not one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
