"""``--paper-mode``: text features as the released code makes them, by the recipe's own keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxella.errors import UserError

if TYPE_CHECKING:
    from voxella.recipe.inputs import Text

__all__ = ["paper_mode"]

# recipes/ccella-released.yaml says the same for a whole experiment.
_RELEASED = (
    "text.max_tokens=512",
    "text.padding=max",  # padding is encoded, kept, and attended to
    "text.truncation=left",  # a report that is too long loses its beginning
    "text.dtype=float32",
)


def paper_mode(text: Text | None, name: str) -> list[str]:
    """Return the overrides that make a recipe's text features the released ones.

    Args:
        text: The recipe's block.
        name: The recipe's.

    Raises:
        UserError: The recipe reads no text, or runs its encoder in fewer bits than the released
            code does.
    """
    if text is None:
        raise UserError(
            f"--paper-mode is about text features, and recipe {name} reads no text",
            remedy="leave it out, or take a recipe that reads text: recipes/ccella.yaml",
        )
    dtype = text.encoder.arguments.get("dtype", "float32")
    if dtype != "float32":
        raise UserError(
            f"--paper-mode: the released code runs its encoder in float32, the recipe in {dtype}",
            remedy="--set text.encoder.dtype=float32",
        )
    return list(_RELEASED)
