"""How a benchmark's result is printed and kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from voxella.provenance import versions

__all__ = ["publish"]


def publish(measured: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """Print a result with versions and date, write it to ``path`` where one is given; return it."""
    result = {
        **measured,
        "versions": versions(),
        "date": datetime.now(UTC).date().isoformat(),
    }
    print(json.dumps(result, indent=2))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    return result
