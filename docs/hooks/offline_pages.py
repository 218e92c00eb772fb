"""A page of the site may load nothing from a network: no script, style, font or picture."""

from __future__ import annotations

import logging
import re
from typing import Protocol

_LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'\s>]*"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|icon|preconnect))[^>]*"
    r"\bhref=[\"']?(?:https?:)?//[^\"'\s>]*"
)
_log = logging.getLogger("mkdocs.hooks.offline_pages")


class _File(Protocol):
    src_uri: str


class _Page(Protocol):
    file: _File


def on_post_page(output: str, page: _Page, **_: object) -> str:
    """Warn of whatever a finished page would load from elsewhere; that ends the build."""
    for found in sorted(set(_LOADED.findall(output))):
        _log.warning("%s: loaded from a network: %s", page.file.src_uri, found)
    return output
