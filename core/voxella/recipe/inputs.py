"""Blocks of a recipe up to the diffusion model's inputs: cases, images, latents, text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from voxella.plugins.component import Component
from voxella.recipe.augment import LatentAugment
from voxella.recipe.block import Block, Count, Label, PartOfName, Voxels, Width
from voxella.recipe.intensity import MEASURED, UNITS, Intensity
from voxella.recipe.text.block import Text, computed_in

__all__ = [
    "Data",
    "Intensity",
    "Interpolation",
    "Latent",
    "Prepare",
    "Text",
    "computed_in",
]


class Data(Block):
    """Where cases come from and what they are."""

    dataset: Path | None = Field(
        None, description="folder with manifest.jsonl; None runs `importer`"
    )
    importer: Component | None = Field(None, description="runs when no data set is named")
    sequences: list[PartOfName] = Field(
        ["t2w"], min_length=1, description="image channels, in order"
    )
    optional: list[PartOfName] = Field(
        default_factory=list,
        # Left out where there is none: recipes and hashes from before are those without it.
        exclude_if=lambda names: not names,
        description="sequences that a case may lack: it is trained on those that it has",
    )
    classes: list[Label] = Field(
        ["negative", "positive"], min_length=2, description="label names, in order"
    )
    positive: Label | None = Field(
        None, description="class of binary numbers; None: the last of two, of more each in turn"
    )

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> Data:
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive is no class; expected: {', '.join(self.classes)}")
        return self

    @model_validator(mode="after")
    def _optional_are_later_sequences(self) -> Data:
        later = self.sequences[1:]
        if wrong := [name for name in self.optional if name not in later]:
            raise ValueError(
                f"optional: {', '.join(wrong)}; expected: {', '.join(later) or 'none'} (the first "
                "of data.sequences decides the grid, so every case has it)"
            )
        return self

    @property
    def positive_class(self) -> str | None:
        """Return the positive class; None where each class stands against the rest."""
        return self.positive or (self.classes[-1] if len(self.classes) == 2 else None)

    @property
    def named_positive(self) -> dict[str, str]:
        """Return what a stage's record has beside the classes: nothing where the rule decides."""
        usual = len(self.classes) == 2 and self.positive == self.classes[-1]
        return {} if self.positive is None or usual else {"positive": self.positive}


# How a volume is resampled.
Interpolation = Literal["lanczos", "linear", "bspline"]


class Prepare(Block):
    """Raw images to the training grid."""

    crop_mm: list[float | None] = Field(
        [128.0, 128.0, None],
        description="centre crop in mm along R, A, S; None keeps the whole extent",
    )
    crop_voxels: list[Voxels | None] | None = Field(
        None,
        exclude_if=lambda crop: crop is None,
        description="the same in the image's own voxels, in place of crop_mm: for pictures, which "
        "do not say how large a pixel is",
    )
    crop_around: str | None = Field(
        None,
        description="sequence of a mask: the crop is centred on it; None: on the field of view",
    )
    straighten: bool = Field(
        False,
        description="resample oblique scans onto the scanner's axes; false keeps the scan's own",
    )
    size: list[Voxels] = Field([256, 256, 128], description="voxels along R, A, S")
    percentiles: tuple[float, float] = Field(
        (0.0, 99.5), description="mapped to 0 and 1, then clipped"
    )
    percentiles_of: Literal["crop", "resampled"] = Field(
        "crop",
        description="of the scan's voxels in the crop; resampled: of the volume on the grid, "
        "padding included, as in the released code",
    )
    intensity: dict[str, Intensity] = Field(
        default_factory=lambda: dict(MEASURED),
        description="rules by sequence, before `percentiles`; adc has one: 0 to 3000 (1e-6 mm²/s)",
    )
    interpolation: Interpolation = "lanczos"

    @field_validator("intensity")
    @classmethod
    def _with_measured(cls, rules: dict[str, Intensity]) -> dict[str, Intensity]:
        """Keep the rule of adc where only other sequences are given one."""
        return {**MEASURED, **rules}

    def intensity_of(self, sequence: str) -> Intensity:
        """Return the rule of one sequence, whatever the case of its letters."""
        rules = {name.lower(): rule for name, rule in self.intensity.items()}
        percentiles = Intensity(percentiles=self.percentiles, window=None)
        return rules.get(sequence.lower(), percentiles)

    def quantities(self, sequences: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return window and unit of the sequences that are written in a unit, by name."""
        rules = {name: self.intensity_of(name) for name in sequences}
        units = {n: rule.unit or UNITS.get(n.lower()) for n, rule in rules.items() if rule.window}
        return {
            name: {"window": list(rules[name].window or ()), "unit": unit}
            for name, unit in units.items()
            if unit is not None
        }

    def is_colour(self, sequence: str) -> bool:
        """Return whether a sequence has red, green and blue, three channels of the image."""
        return self.intensity_of(sequence).rule == "colour"

    def channels_of(self, sequence: str) -> int:
        """Return how many channels of the image a sequence makes."""
        return 3 if self.is_colour(sequence) else 1


_SCALE_CASES = 64


class Latent(Block):
    """What the diffusion model sees."""

    channels: Width = 4
    size: list[Voxels] = Field(
        [64, 64, 32], min_length=2, max_length=3, description="voxels per axis"
    )
    dtype: Literal["bfloat16", "float32", "compact"] = Field(
        "float32", description="compact: 8 bits for the mean and 4 for log sigma"
    )
    tiling: Literal["auto", "never"] | list[Voxels] = Field(
        "auto",
        description="windows the autoencoder works in: when memory is short, never, or voxels",
    )
    draw: Literal["resample", "mean", "fixed"] = Field(
        "resample",
        description="draw anew each step, use the mean, or one fixed draw (paper mode)",
    )
    scale: Literal["exact", "first_batch"] | float = Field(
        "exact",
        description="factor on latents: 1/std over the training set, of the first batch, or given",
    )
    scale_per: Literal["set", "sequence", "channel"] = Field(
        "set",
        # Left out where it is the default: hashes from before are those without it.
        exclude_if=lambda per: per == "set",
        description="one factor for all latents, for each stacked sequence, or for each channel",
    )
    # The three are left out at their defaults: hashes from before are those without them.
    source: Literal["cached", "online"] = Field(
        "cached",
        exclude_if=lambda source: source == "cached",
        description="online: encoded as training goes by the frozen autoencoder, without a cache",
    )
    scale_cases: Count = Field(
        _SCALE_CASES,
        exclude_if=lambda cases: cases == _SCALE_CASES,
        description="training cases that an online scale is measured on, chosen by the seed",
    )
    crop: list[Voxels] | None = Field(
        None,
        exclude_if=lambda crop: crop is None,
        description="voxels of an image that an online visit sees, placed by (seed, case, epoch); "
        "None: all of it",
    )
    variations: int = Field(
        0, ge=0, le=1000, description="augmented variations encoded beside each training case"
    )
    augment: LatentAugment = LatentAugment()
