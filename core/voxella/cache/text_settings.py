"""What of a recipe's ``text`` block decides features."""

from __future__ import annotations

from typing import Any

from voxella.recipe.text.block import Text

__all__ = ["NOT_OF_FEATURES", "text_settings"]

# Arguments of an encoder that say how it runs and not what it returns.
_EXECUTION = ("device", "batch_size", "stream")
# Every text is encoded, whichever is read; a text that is written by rule is a text like others.
NOT_OF_FEATURES = frozenset({"source", "reports_share", "synthesise"})


def text_settings(text: Text) -> dict[str, Any]:
    """Return the part of a recipe's ``text`` block that decides the features."""
    settings = text.model_dump(mode="json")
    settings["encoder"] = {k: v for k, v in settings["encoder"].items() if k not in _EXECUTION}
    for name in NOT_OF_FEATURES:
        settings.pop(name, None)
    if not text.replace_markers:
        # Features from before this could be chosen are those without it.
        del settings["replace_markers"]
    return settings
