"""The autoencoder, what it is held to before latents are made, and what fits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from voxella.plugins.component import Component
from voxella.recipe.block import Block, Count, CountOrNone
from voxella.recipe.inputs import Data, Latent, Prepare
from voxella.recipe.training import AutoencoderTraining

__all__ = ["AutoencoderBlock", "AutoencoderCheck", "stacked"]


# Where in a recipe, and what is wrong there.
_Wrong = tuple[tuple[str | int, ...], str]


class AutoencoderBlock(Component):
    """The autoencoder: a plugin by name, its arguments, and how it takes several sequences."""

    per_sequence: bool = Field(
        False,
        # Left out where it is not asked for: recipes and hashes from before are those without it.
        exclude_if=lambda value: value is False,
        description="run a frozen autoencoder of one channel over each sequence and stack the "
        "latents; latent.channels counts those of all sequences",
    )

    def passes(self, sequences: Sequence[str]) -> int:
        """Return how often the network runs over one case: once, or once for each sequence."""
        return len(sequences) if self.per_sequence else 1


class AutoencoderCheck(Block):
    """`voxella check-autoencoder`: what reconstructions must reach; null asks for nothing."""

    cases: Count = Field(8, description="cases of val at most; of train where val is empty")
    bands: list[float] = Field(
        [0.1, 0.3, 0.6],
        description="where bands of the original's intensity end, between 0 and 1, rising",
    )
    psnr_db: float | None = Field(24.0, description="mean over the cases, at least")
    ssim: float | None = Field(0.8, le=1, description="mean over the cases, at least")
    mae: float | None = Field(None, ge=0, description="mean over the cases, at most")
    band_mae: float | None = Field(None, ge=0, description="mean error of any band, at most")
    dead_channels: CountOrNone | None = Field(
        None, description="latent channels that hold nothing but noise, at most"
    )
    on_failure: Literal["warn", "stop"] = Field(
        "warn", description="before encoding, when the autoencoder is not trusted"
    )

    @field_validator("bands")
    @classmethod
    def _rising(cls, bands: list[float]) -> list[float]:
        # "not <" rather than ">=": NaN does not rise, either.
        if not all(low < high for low, high in pairwise([0.0, *bands, 1.0])):
            raise ValueError(f"{bands} do not rise from 0 to 1, both left out")
        return bands


def stacked(
    autoencoder: AutoencoderBlock,
    training: AutoencoderTraining | None,
    data: Data,
    prepare: Prepare,
    latent: Latent,
    evaluated: str | None,
) -> Iterator[_Wrong]:
    """Yield what does not fit of sequences, of latents, and of factors on these, by key.

    Args:
        autoencoder: The recipe's block.
        training: The recipe's block.
        data: The recipe's block.
        prepare: The recipe's block.
        latent: The recipe's block.
        evaluated: ``evaluate.sequence``.
    """
    mixed = len(data.sequences) > 1 and not autoencoder.per_sequence
    yield from _scales(latent, mixed=mixed)
    yield from _online(latent, prepare)
    yield from _optional(data, evaluated, stacks=autoencoder.per_sequence)
    if not autoencoder.per_sequence:
        return
    # One network, so it is trained on one sequence.
    if training is not None:
        yield (
            ("autoencoder", "per_sequence"),
            "takes a frozen autoencoder, and autoencoder_training would train it; train one in a "
            "recipe of one sequence, then name its file in autoencoder.weights",
        )
    if any(prepare.is_colour(name) for name in data.sequences):
        colours = [name for name in data.sequences if prepare.is_colour(name)]
        yield (
            ("autoencoder", "per_sequence"),
            f"takes sequences of one channel, and {', '.join(colours)} is in colours",
        )
    count, channels = len(data.sequences), latent.channels
    if channels % count:
        yield (
            ("latent", "channels"),
            f"received {channels}: {count} sequences are encoded one by one and stacked; expected: "
            f"{count} x the channels of one, such as {count * channels}",
        )


def _scales(latent: Latent, *, mixed: bool) -> Iterator[_Wrong]:
    if latent.scale_per == "set":
        return
    if not isinstance(latent.scale, str):
        yield (
            ("latent", "scale_per"),
            f"received {latent.scale_per}, and latent.scale gives one number, {latent.scale:g}; "
            "expected: set, or a scale that is measured (exact, first_batch)",
        )
    if latent.scale_per == "sequence" and mixed:
        yield (
            ("latent", "scale_per"),
            "received sequence, and every channel of the latent is of all sequences; expected: "
            "set, channel, or autoencoder.per_sequence: true",
        )


def _optional(data: Data, evaluated: str | None, *, stacks: bool) -> Iterator[_Wrong]:
    optional = data.optional
    if not optional:
        return
    names = ", ".join(optional)
    if not stacks:
        yield (
            ("data", "optional"),
            f"received {names}: a case that lacks a sequence needs latents of each by itself; "
            "expected: with autoencoder.per_sequence: true",
        )
    if evaluated in optional:
        yield (
            ("evaluate", "sequence"),
            f"received {evaluated}, which real cases may lack; expected: "
            f"{', '.join(name for name in data.sequences if name not in optional)}",
        )


def _online(latent: Latent, prepare: Prepare) -> Iterator[_Wrong]:
    if latent.source == "online":
        if latent.variations:
            yield (
                ("latent", "variations"),
                f"received {latent.variations}, and variations lie in a cache; expected: 0 with "
                "latent.source: online, or cached",
            )
    elif latent.crop is not None:
        yield ("latent", "crop"), "needs latent.source: online: cached latents are of whole images"
    if latent.crop is not None and (
        len(latent.crop) != len(prepare.size)
        or any(c > n for c, n in zip(latent.crop, prepare.size, strict=True))
    ):
        yield (
            ("latent", "crop"),
            f"received {latent.crop}; expected: one number an axis, at most those of prepare.size, "
            f"{prepare.size}",
        )
