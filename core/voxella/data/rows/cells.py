"""Cells of a workbook: what Excel shows against what it stores.

An id typed as 007 is stored as 7 under the format 000, and one typed as 3-4 as a date. What stands
in a column of ids or words is read as it is shown; where that cannot be told, it is refused.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from voxella.data.rows.table import cell_text, cut_problem

__all__ = ["cell_note", "cell_problem", "shown_text"]

# Excel keeps 15 digits of a number: longer ids have lost their last ones on being typed in.
_DIGITS = 15
_PLAIN = re.compile(r"General|@|[#, ?]*[#0?](?:\.[0#?]+)?", re.I)
_COLOUR = re.compile(r"\[(?!h|m|s)[^\]]*\]", re.I)
_CONDITION = re.compile(r"\[[<>=]")
# Room left free, or filled up: _) and *-
_SPACE = re.compile(r'("[^"]*"|\\.)|[_*].', re.S)
# Literals and zeros: P-000, "P"000, 000-00
_PADDED = re.compile(r'(?:"[^"]*"|\\.|[-/ ()+:]|0)*', re.S)
_PIECE = re.compile(r'"([^"]*)"|\\(.)|(0+)|(.)', re.S)


def shown_text(cell: Any) -> str:  # noqa: ANN401 - openpyxl's cell classes share no base
    """Return a cell's text, numbers with the zeros and the words that their format adds."""
    from openpyxl.utils.escape import unescape

    value = cell.value
    if isinstance(value, str):
        return cell_text(unescape(value))
    if not _is_number(value):
        return cell_text(value)
    if padded := _padded(value, cell.number_format):
        return padded
    # As many digits as Excel shows: 0.1 + 0.2 is 0.3 there.
    return cell_text(float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value)


def cell_problem(cell: Any, written: Any, *, as_number: bool) -> str:  # noqa: ANN401 - see above
    """Return why a cell's value is not what the user sees, or nothing.

    Args:
        cell: The cell with its computed value.
        written: The same with its formula.
        as_number: It stands in a column of numbers and dates; otherwise of ids and words.
    """
    value = cell.value
    if value is None:
        # A formula whose result is no text at all has been computed, too.
        computed = written is not None and written.data_type == "f" and cell.data_type != "str"
        return "a formula that was never computed; open it in Excel and save" if computed else ""
    if cell.data_type == "e":
        return "an error such as #N/A"
    if isinstance(value, str):
        return cut_problem(value) or ""
    if _is_number(value) and abs(value) >= 10**_DIGITS:
        return f"a number of more than {_DIGITS} digits, which Excel rounds; format it as text"
    if as_number:
        return ""
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return (
            "a date, which Excel may have made of something else; format it as text and type it "
            "again"
        )
    if _is_number(value) and not _is_plain(value, cell.number_format):
        return "a number that its format shows otherwise (percent, hidden, ...); format it as text"
    return ""


def cell_note(cell: Any) -> str | None:  # noqa: ANN401 - see above
    """Return in which way a number of a column of numbers is shown otherwise than it is stored."""
    if not _is_number(cell.value) or _is_plain(cell.value, cell.number_format):
        return None
    return "percentages (50% is 0.5)" if "%" in cell.number_format else "formatted numbers"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: float, number_format: str) -> bool:
    form = _form(value, number_format)
    return bool(_PLAIN.fullmatch(form)) or _padded(value, number_format) is not None


def _form(value: float, number_format: str) -> str:
    """Return the part of a format that shows a value, "" where that cannot be told."""
    parts = number_format.split(";")
    if _CONDITION.search(number_format) or (value < 0 and len(parts) > 1):
        return ""
    part = parts[2] if value == 0 and len(parts) > 2 else parts[0]
    return _SPACE.sub(r"\1", _COLOUR.sub("", part))


def _padded(value: float, number_format: str) -> str | None:
    """Return a whole number under a format of zeros and literals; None under another format."""
    if value < 0 or not float(value).is_integer():
        return None
    form = _form(value, number_format)
    places = re.sub(r'"[^"]*"|\\.', "", form).count("0")
    if form == "0" or not places or not _PADDED.fullmatch(form):
        return None
    digits = f"{int(value):0{places}d}"
    pieces = [match.groups() for match in _PIECE.finditer(form)]
    # Zeros are filled from the right; what is over stands before the first of them.
    found: list[str] = []
    left = len(digits)
    for number, (quoted, escaped, zeros, other) in reversed(list(enumerate(pieces))):
        if zeros is None:
            found.append(quoted if quoted is not None else escaped or other)
            continue
        first = not any(piece[2] for piece in pieces[:number])
        start = 0 if first else left - len(zeros)
        found.append(digits[start:left])
        left = start
    return "".join(reversed(found))
