"""The reference of the command line, out of the parser that reads it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Protocol

from voxella.cli import _parser

MARK = "<!-- every command -->"


class _File(Protocol):
    src_uri: str


class _Page(Protocol):
    file: _File


def on_page_markdown(markdown: str, page: _Page, **_: object) -> str:
    """Put every verb with its arguments where the page has its mark."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n".join(_verbs(_parser([]), "")))


def _verbs(parser: argparse.ArgumentParser, told: str) -> Iterator[str]:
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if parser.prog.count(" "):
        yield f"\n## {parser.prog}\n"
        yield (told or parser.description or "").strip() + "\n"
        yield f"```\n{parser.format_usage().removeprefix('usage: ').strip()}\n```\n"
        yield from _arguments(parser)
    for action in below:
        words = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, child in action.choices.items():
            yield from _verbs(child, words.get(name, ""))


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    shown = [a for a in parser._actions if _is_shown(a)]
    if not shown:
        return
    yield "| argument | meaning |\n|---|---|"
    formatter = parser._get_formatter()
    for action in shown:
        name = ", ".join(action.option_strings) or formatter._format_args(action, action.dest)
        if action.option_strings and action.nargs != 0:
            name += " " + formatter._format_args(action, action.dest.upper())
        meaning = formatter._expand_help(action) if action.help else ""
        yield f"| `{name}` | {_cell(meaning)} |"
    yield ""


def _is_shown(action: argparse.Action) -> bool:
    hidden = action.help == argparse.SUPPRESS
    return not hidden and not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
