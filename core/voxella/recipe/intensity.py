"""What becomes 0 and 1 in one sequence, and the unit of those that are a physical quantity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from voxella.recipe.block import Block
from voxella.wording import quoted

__all__ = ["MEASURED", "UNITS", "Intensity"]


class Intensity(Block):
    """What becomes 0 and 1 in one sequence: exactly one of the three."""

    percentiles: tuple[float, float] | None = Field(
        None, description="of the voxels inside the crop, case by case"
    )
    window: tuple[float, float] | None = Field(
        None, description="intensities, the same in every case"
    )
    rule: Literal["none", "colour"] | None = Field(
        None,
        # What was prepared before this key is still known.
        exclude_if=lambda rule: rule is None,
        description="none: values stay, over 255 or 65535 in pictures of 8 or 16 bits; colour: the "
        "same, and the image has three channels, red, green and blue",
    )
    stain: Literal["macenko"] | None = Field(
        None,
        # What was prepared before this key is still known.
        exclude_if=lambda stain: stain is None,
        description="colours of H&E as if each image had been stained like one reference (Macenko "
        "et al. 2009); with rule: colour",
    )
    unit: str | None = Field(
        None,
        max_length=40,
        # What was prepared before this key is still known.
        exclude_if=lambda unit: unit is None,
        description="of a window's numbers, such as 1e-6 mm2/s: synthetic images are written in it",
    )

    @model_validator(mode="after")
    def _one_rising_pair(self) -> Intensity:
        if sum(given is not None for given in (self.percentiles, self.window, self.rule)) != 1:
            raise ValueError(
                "give exactly one of percentiles, window and rule (null removes the others)"
            )
        low, high = self.percentiles or self.window or (0.0, 1.0)
        if not low < high or (self.percentiles and not 0 <= low < high <= 100):
            raise ValueError(
                f"received {low:g}, {high:g}; expected: low < high, percentiles 0 to 100"
            )
        if self.stain is not None and self.rule != "colour":
            raise ValueError(
                f"stain {self.stain} is of colours; expected: with rule: colour, or stain: null"
            )
        if self.unit is not None and self.window is None:
            raise ValueError(
                f"unit {quoted(self.unit)} asks for images in it, and what percentiles or a rule "
                "map differs by case: it cannot be undone; expected: a unit beside a window"
            )
        return self


# What the rules of known quantities are in; written by default, so that an ADC leaves as one.
UNITS = {"adc": "1e-6 mm2/s"}
# Where intensities are a physical quantity, percentiles would throw it away.
MEASURED = {"adc": Intensity(window=(0.0, 3000.0), percentiles=None)}
