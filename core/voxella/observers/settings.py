"""What of a recipe stands beside a run's numbers in a tool that compares runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxella.recipe.model import Recipe

__all__ = ["settings_told"]

_TOLD = {
    *("name", "seed", "conditioner", "backbone", "diffusion", "loss", "dropout"),
    *("optimizer", "train", "sample", "latent", "classify"),
}
# Names of folders may be names of people.
_PRIVATE = {"classify": {"samples"}, "sample": {"prompts"}}


def settings_told(recipe: Recipe) -> dict[str, Any]:
    """Return numbers and names of a recipe under dotted keys: what runs are told apart by."""
    return _leaves(recipe.model_dump(mode="json", include=_TOLD, exclude=_PRIVATE))


def _leaves(block: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in block.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            found[f"{prefix}{key}"] = value
    return found
