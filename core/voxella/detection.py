"""What a case's text tells of it and what a probe finds in its image, in the same words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Detection", "Facts"]


@dataclass(frozen=True)
class Facts:
    """What is told of a case, or found in its image.

    Attributes:
        present: Whether there is a lesion.
        side: None where it is not told, or where several lesions are.
        zone: Likewise.
        size_mm: Largest diameter, likewise.
        levels: Further findings as words by name, such as ``{"til": "high"}``.
    """

    present: bool
    side: str | None = None
    zone: str | None = None
    size_mm: float | None = None
    levels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Detection:
    """What a probe finds in an image.

    Attributes:
        found: The findings.
        blind: The image shows nothing that the probe could look into.
        details: Numbers of the probe's own, by name; kept, and compared with nothing.
    """

    found: Facts
    blind: bool = False
    details: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the detection as JSON-ready data."""
        return asdict(self)
