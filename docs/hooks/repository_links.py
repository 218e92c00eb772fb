"""Links from a page to a file of the repository that is no page: recipes, examples, bench.

The site does not hold these files, so the link becomes the file's path. One that leads nowhere is
a warning, which ends the build.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(#[^)\s]*)?\)")
_log = logging.getLogger("mkdocs.hooks.repository_links")


class _File(Protocol):
    src_uri: str


class _Page(Protocol):
    file: _File


def on_page_markdown(markdown: str, page: _Page, **_: object) -> str:
    """Replace links that leave ``docs`` by the path of the file they lead to."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def replaced(found: re.Match[str]) -> str:
        words, target = found[1], (folder / found[2]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return found[0]
        if not target.exists():
            _log.warning("%s: no such file: %s", page.file.src_uri, found[2])
            return found[0]
        path = f"`{target.relative_to(ROOT)}`"
        plain = words.strip("`")
        return path if path.strip("`").endswith(plain) else f"{words} ({path})"

    return _LINK.sub(replaced, markdown)
