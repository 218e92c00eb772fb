"""Blocks of a recipe that say how images are changed at random: motions, and artefacts of MRI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from voxella.recipe.block import Block

__all__ = ["ARTEFACTS", "Augment", "LatentAugment"]

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Times = Annotated[int, Field(ge=1, le=100)]
Range = tuple[Amount, Amount]


class BiasField(Block):
    """A smooth gain over the image, as of a receive coil: the exponential of a cubic polynomial."""

    probability: Share = 0.2
    strength: Amount = Field(0.5, le=5, description="largest coefficient of the polynomial")


class Motion(Block):
    """The patient moves during the scan: lines of k-space, along A, are of different poses."""

    probability: Share = 0.2
    degrees: Amount = Field(5.0, le=180, description="to either side; of a slice, in its plane")
    translate_mm: Amount = Field(5.0, description="to either side")
    movements: Times = 2


class Ghosting(Block):
    """Faint copies along R or A, as of flow and breathing."""

    probability: Share = 0.2
    ghosts: tuple[Times, Times] = (4, 10)
    intensity: tuple[Share, Share] = Field(
        (0.3, 0.7), description="what every n-th line of k-space loses"
    )


class Spike(Block):
    """Stripes, as of single points of k-space that are far too strong."""

    probability: Share = 0.2
    spikes: Times = Field(1, description="at most")
    intensity: Range = Field((0.1, 0.3), description="times the largest value of k-space")


class Noise(Block):
    """Normal noise."""

    probability: Share = 0.2
    std: Range = Field((0.0, 0.05), description="of intensities from 0 to 1")


class Blur(Block):
    """A Gaussian along each axis."""

    probability: Share = 0.2
    std_mm: Range = (0.0, 1.0)


# In the order in which they are applied.
ARTEFACTS = ("bias_field", "motion", "ghosting", "spike", "blur", "noise")


class Augment(Block):
    """Random changes of an image.

    Flip, rotation, translation and zoom have one probability; in the axial plane: left and right
    change places, rotation is about the S axis. Artefacts of MRI are off unless their block is
    given, `{}` for its defaults.
    """

    probability: float = Field(0.5, ge=0, le=1)
    flip: bool = True
    rotate_degrees: float = Field(15.0, ge=0, le=180)
    translate_share: Share | list[Share] = Field(
        0.1, description="of the image's edge, to either side; one number, or one for each axis"
    )
    zoom: tuple[float, float] = (0.9, 1.1)
    bias_field: BiasField | None = None
    motion: Motion | None = None
    ghosting: Ghosting | None = None
    spike: Spike | None = None
    noise: Noise | None = None
    blur: Blur | None = None

    def translate_shares(self, axes: int) -> list[float]:
        """Return how far an image may move along each of its axes."""
        given = self.translate_share
        return list(given) if isinstance(given, list) else [given] * axes

    def problems(self, axes: int, size: str) -> Iterator[tuple[str, str]]:
        """Yield what cannot work: the key, and why; ``size`` is the key that says ``axes``."""
        shares = len(self.translate_shares(axes))
        if shares != axes:
            yield "translate_share", f"has {shares} numbers, {size} has {axes} axes"
        smallest, largest = self.zoom
        if not 0 < smallest <= largest:
            yield "zoom", f"received {smallest:g}, {largest:g}; expected: 0 < low <= high"
        for name in ARTEFACTS:
            for key, value in getattr(self, name) or ():
                if isinstance(value, tuple) and not value[0] <= value[1]:
                    low, high = value
                    yield f"{name}.{key}", f"received {low:g}, {high:g}; expected: low <= high"

    def decides(self) -> dict[str, Any]:
        """Return what decides the images, as JSON; artefacts that are off are left out."""
        dumped = self.model_dump(mode="json")
        return {key: value for key, value in dumped.items() if value is not None}


class LatentAugment(Augment):
    """Random changes of a volume before it is encoded; no flip, because reports name sides."""

    flip: bool = False
