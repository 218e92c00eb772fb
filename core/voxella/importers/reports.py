"""Report texts: decoded from what hospitals' systems write, kept as UTF-8 that only the user reads.

Nothing here puts text into a message: a report is patient data, and so may be anything that stands
where a report was expected.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from voxella.errors import UserError
from voxella.files import sha256_file, write_text_atomic
from voxella.machine import raise_if_machine

__all__ = ["Report", "decode", "read_report", "write_report"]

# utf-32 comes first: its little-endian mark begins with that of utf-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Report:
    """One report.

    Attributes:
        text: The text, never empty.
        encoding: What its bytes were in.
    """

    text: str
    encoding: str

    def __repr__(self) -> str:
        # A dataclass's own would put the text into tracebacks and logs.
        return f"Report({len(self.text)} characters, {self.encoding})"


def decode(data: bytes) -> tuple[str, str]:
    """Return the text and the name of its encoding.

    UTF-8, or what a byte-order mark says. Bytes that are not UTF-8 are windows-1252, which is
    Latin-1 with printable characters in the place of control codes, or else Latin-1, which accepts
    any byte.

    Raises:
        ValueError: A byte-order mark does not hold, or the text has NUL characters: UTF-16 without
            a mark, or no text at all.
    """
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    tries = (marked,) if marked else ("utf-8", "cp1252", "latin-1")
    for encoding in tries:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            raise ValueError("holds NUL bytes: UTF-16 without a byte-order mark, or no text")
        return text, encoding
    raise ValueError(f"begins as {marked} and is not")


def read_report(path: Path) -> Report | None:
    """Read one report file; None when it holds nothing but white space.

    Raises:
        ValueError: It is absent or no text. The message holds neither its name nor its text.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise_if_machine(error)
        # ValueError: a NUL in the name. The name may itself be a report in the wrong column.
        raise ValueError("does not exist or cannot be read") from error
    text, encoding = decode(data)
    return Report(text, encoding) if text.strip() else None


def write_report(out: Path, case: str, report: Report) -> tuple[str, str]:
    """Write ``reports/<case>.txt``; return its relative path and its hash.

    Raises:
        UserError: It holds characters that UTF-8 cannot write.
    """
    relative = f"reports/{case}.txt"
    try:
        path = write_text_atomic(out / relative, report.text)
    except UnicodeEncodeError:
        # A lone surrogate, which JSON can spell. The codec's own message would quote the text.
        problem = f"case {case}: its report holds characters that are no text"
        raise UserError(problem) from None
    return relative, sha256_file(path)
