"""axe-core's judgement of a page that Chromium shows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from chromium import Chromium

__all__ = ["serious"]

_AXE = Path(__file__).parent / "axe" / "axe.min.js"
# Of the npm package axe-core, version 4.14.1, dist file axe.min.js (MPL-2.0).
_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"
_SERIOUS = """axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations
  .filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => [one.id, one.nodes.map((node) => node.html.slice(0, 120))]))"""


def serious(browser: Chromium) -> Any:
    """Return the serious and critical violations: rule, and the elements it names."""
    source = _AXE.read_text(encoding="utf-8")
    assert hashlib.sha256(source.encode()).hexdigest() == _SHA256
    browser.evaluate(f"(() => {{ {source} }})()")
    return browser.evaluate(_SERIOUS)
