"""A block of a recipe that names a plugin."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Component"]


class Component(BaseModel):
    """A plugin by name; every other key is a keyword argument of its builder."""

    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    name: str = Field(description="the plugin's name, see `voxella plugins`")

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the builder's keyword arguments."""
        return dict(self.model_extra or {})
