"""Bytes to text: by a mark, as UTF-8, or in the encoding that was told. Nothing is guessed.

Any bytes are text in some eight-bit encoding, so that one that is tried in turn "succeeds" on files
in another and garbles them. What is neither marked nor UTF-8 is refused; a detector
(charset-normalizer) says what it may be, and the user decides.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["decode", "encoding_problem"]

# utf-32 comes first: its little-endian mark begins with that of utf-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Python's codecs that accept anything, or turn text into other text.
_NO_CHARSETS = frozenset({"unicode_escape", "raw_unicode_escape", "idna", "punycode", "undefined"})
# An eight-bit encoding has letters where these come from.
_CONTROLS = re.compile(r"[\x80-\x84\x86-\x9f]")
# ISO-2022-JP and its like: ASCII bytes that are not ASCII text.
_SHIFTS = re.compile(rb"\x1b[$(]")
_LOOKED_AT = 1 << 18
_BELIEFS = 4
_USUAL = ("cp1252", "cp1251", "cp1250", "iso8859_2", "gb18030", "shift_jis", "big5")


def decode(
    data: bytes, encoding: str | None = None, *, remedy: str = "--set encoding=NAME"
) -> tuple[str, str]:
    """Return the text and the name of its encoding.

    A byte-order mark decides, then UTF-8 where the bytes are that and more than ASCII, then
    ``encoding``: text in another encoding is hardly ever UTF-8 by chance.

    Args:
        data: A file's bytes.
        encoding: What files without a mark that are not UTF-8 are in; None: there are none.
        remedy: How a user tells it, besides saving the file as UTF-8; "" where there is no way.

    Raises:
        ValueError: They are no text in the encoding that decides, or none decides. The message
            holds nothing of them.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if marked is not None:
        problem = (
            f"begins with the byte-order mark of {marked.removesuffix('-sig').upper()}, and is "
            "something else further on; save it as UTF-8 again from its source"
        )
        return _strictly(data, marked, problem), marked
    unsuited = b"\0" in data or _SHIFTS.search(data) is not None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if encoding is None:
            raise ValueError(_unknown(data, error.start, remedy)) from None
    else:
        if not unsuited and (encoding is None or not text.isascii()):
            return text, "utf-8"
        if encoding is None:
            raise ValueError(_unsuited(data, remedy))
    return _told(data, encoding), encoding


def encoding_problem(encoding: str | None) -> str | None:
    """Return what is wrong with the name of an encoding, or None."""
    if encoding is None:
        return None
    try:
        found = codecs.lookup(encoding)
        "".encode(encoding)  # LookupError for what is no encoding of text, such as hex
    except (LookupError, ValueError):
        found = None
    if found is not None and found.name.replace("-", "_") not in _NO_CHARSETS:
        return None
    return f"encoding: {encoding!r} is none that is known, such as windows-1252 or gb18030"


def _strictly(data: bytes, encoding: str, problem: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeError:
        # The codec's own exception carries the bytes.
        raise ValueError(problem) from None
    if "\0" in text:
        raise ValueError(f"holds NUL characters: no text in {encoding}")
    return text


def _told(data: bytes, encoding: str) -> str:
    text = _strictly(data, encoding, f"is not {encoding}, as it was told to be{_belief(data)}")
    if _CONTROLS.search(text):
        raise ValueError(
            f"holds control characters when it is read as {encoding}: it is in another"
            f"{_belief(data)}"
        )
    return text


def _unknown(data: bytes, start: int, remedy: str) -> str:
    ask = f"tell which it is, {remedy}, or save it as UTF-8" if remedy else "save it as UTF-8"
    return f"is not UTF-8 (byte {start} of {len(data)}){_belief(data)}; {ask}"


def _unsuited(data: bytes, remedy: str) -> str:
    """Return what bytes seem to be that are UTF-8 by the letter, and no text."""
    found, name = "holds escape sequences of ISO-2022 where text was expected", "iso2022_jp"
    if b"\0" in data:
        found = "holds NUL bytes: UTF-16 without a byte-order mark, or no text"
        odd = data[1::2].count(0) >= data[::2].count(0)
        name = "utf-16-le" if odd else "utf-16-be"
    tell = f"{remedy.replace('NAME', name)}, or " if remedy else ""
    return f"{found}; if it is text: {tell}save it as UTF-8"


def _belief(data: bytes) -> str:
    names = _likely(data)
    return f"; it may be {' or '.join(_name(name) for name in names)}" if names else ""


def _likely(data: bytes) -> list[str]:
    """Return what a detector takes the bytes for, the likeliest first; little text tells little."""
    from charset_normalizer import from_bytes

    found: list[str] = []
    for match in from_bytes(data[:_LOOKED_AT]):
        # Encodings that give the same text are one belief; the usual one is named.
        same = [match.encoding, *match.could_be_from_charset]
        found.append(next((name for name in _USUAL if name in same), match.encoding))
    return list(dict.fromkeys(found))[:_BELIEFS]


def _name(codec: str) -> str:
    return re.sub(r"^cp(125\d)$", r"windows-\1", codec)
