"""References in docstrings, such as :class:`Case`, as the plain code that they name."""

from __future__ import annotations

import re

_ROLE = re.compile(r":(?:class|meth|func|attr|data|mod):(?=<code>)")


def on_page_content(html: str, **_: object) -> str:
    """Drop the roles, which the site's Markdown does not know."""
    return _ROLE.sub("", html)
