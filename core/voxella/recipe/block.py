"""What every block of a recipe is, and the one block that is open: a component."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Block", "Component"]


class Block(BaseModel):
    """A block of a recipe: an unknown key is an error, and what is read once never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Component(BaseModel):
    """A plugin by name; every other key is a keyword argument of its builder."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="the plugin's name, see `voxella plugins`")

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the builder's keyword arguments."""
        return dict(self.model_extra or {})
