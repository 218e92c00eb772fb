"""The table of every declared number, out of the installed metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from voxella.metrics.declared.lookup import declared_numbers

MARK = "<!-- every number -->"


class _File(Protocol):
    src_uri: str


class _Page(Protocol):
    file: _File


def on_page_markdown(markdown: str, page: _Page, **_: object) -> str:
    """Put every number by its group where the page has its mark."""
    return markdown.replace(MARK, "\n".join(_table())) if MARK in markdown else markdown


def _table() -> Iterator[str]:
    yield "| key | what | better | unit | group |\n|---|---|---|---|---|"
    for key, number in declared_numbers().items():
        cells = (f"`{key}`", number.full_label, number.better, number.unit, number.group)
        yield f"| {' | '.join(cell.replace('|', '') for cell in cells)} |"
