"""Typed cells, from JSON or a workbook, as the text that a CSV file would hold."""

from __future__ import annotations

import datetime
import math

__all__ = ["cell_text"]


def cell_text(value: object) -> str:
    """Return a cell's text; empty where there is nothing.

    A whole number is written without a decimal point: spreadsheets and pandas keep ids as 3.0. A
    date without a time of day is written as a date, and nan, which is how pandas says "nothing", is
    nothing.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime.datetime):
        midnight = value.time() == datetime.time()
        return (value.date() if midnight else value).isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value).strip()
