"""What a case's text tells of it and what a probe finds in its image, in the same words.

What a case would be with one fact changed, for data whose generator is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    # Voxels (R, A, S) and the affine (4, 4) from their indices to RAS+ mm.
    Scanned: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float64]]

__all__ = ["CHANGES", "Counterfactual", "Detection", "Facts", "Version"]

# Facts that can be changed alone, each from the first to the second.
CHANGES: dict[str, tuple[str, str]] = {
    "presence": ("no lesion", "a lesion"),
    "side": ("right", "left"),
    "size": ("small", "large"),
    "volume": ("small organ", "large organ"),
}


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


@dataclass(frozen=True)
class Version:
    """What a model is told of one version of a case.

    Attributes:
        report: Its text; it is in no repr, log or message.
        label: Its class.
        conditions: What else is known of it, by name.
    """

    report: str = field(repr=False)
    label: str | None = None
    conditions: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Counterfactual:
    """A case before and after one fact is changed, all others and the seed being equal.

    Attributes:
        fact: One of :data:`CHANGES`, which says in which direction: all cases change alike.
        before: The version with the first value.
        after: The version with the second.
        images: The real images of both, voxels ``(R, A, S)`` and affine ``(4, 4)`` to RAS+ mm each,
            on one grid, of draw 0, 1, ...: other draws differ in all that neither report tells,
            such as where exactly a lesion lies. It travels to other processes: pickle copies it.
    """

    fact: str
    before: Version
    after: Version
    images: Callable[[int], tuple[Scanned, Scanned]]
