"""Licences of weights that a recipe names: what was written beside them when they came in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voxella.machine import naming
from voxella.plain_json import json_or_none
from voxella.plugins.component import Component

__all__ = ["RELEASED", "licences_of"]

# Beside the weights files that `voxella convert` writes: source, hashes, licences.
RELEASED = "released.json"
_KEYS = ("weights", "path")


def licences_of(components: Mapping[str, Component | None]) -> dict[str, str]:
    """Return, by part, the licence of weights that came in by ``voxella convert``, in words.

    Args:
        components: The recipe's blocks by part; None where it has none. Their weights are the file
            or folder that ``weights`` or ``path`` names.
    """
    found = {}
    for part, component in components.items():
        arguments = {} if component is None else component.arguments
        for key in _KEYS:
            if (file := arguments.get(key)) and (words := _beside(Path(file), part)):
                found[part] = words
    return found


def _beside(weights: Path, part: str) -> str | None:
    path = weights.parent / RELEASED
    if not path.is_file():
        return None
    with naming(path):  # a file of that name may be anybody's: what is none of ours tells nothing
        facts = json_or_none(path.read_text(encoding="utf-8", errors="replace"))
    if not isinstance(facts, dict):
        return None
    files, licences = facts.get("files"), facts.get("licences")
    if not isinstance(files, dict) or not isinstance(licences, dict):
        return None
    # Of these weights, not of others that lie there: of an encoder's folder the first step counts.
    named = any(str(name).split("/")[0] == weights.name for name in files)
    words = licences.get(part)
    return words if named and isinstance(words, str) else None
