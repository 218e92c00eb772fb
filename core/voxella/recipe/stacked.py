"""Several sequences in one latent: what a recipe's blocks have to say together."""

from __future__ import annotations

from collections.abc import Iterator

from voxella.recipe.autoencoder import AutoencoderBlock
from voxella.recipe.evaluation import Evaluate
from voxella.recipe.inputs import Data, Latent, Prepare
from voxella.recipe.model import Recipe
from voxella.recipe.shape import KeyPath

__all__ = ["stacked"]


def stacked(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield what does not fit of stacked sequences and of factors on their latents."""
    several = len(recipe.data.sequences) > 1
    yield from _scales(recipe.latent, mixed=several and not recipe.autoencoder.per_sequence)
    yield from _online(recipe.latent, recipe.prepare)
    yield from _optional(recipe.data, recipe.evaluate, recipe.autoencoder)
    if not recipe.autoencoder.per_sequence:
        return
    # One network, so it is trained on one sequence.
    if recipe.autoencoder_training is not None:
        yield (
            ("autoencoder", "per_sequence"),
            "takes a frozen autoencoder, and autoencoder_training would train it; train one in a "
            "recipe of one sequence, then name its file in autoencoder.weights",
        )
    if recipe.image_channels != len(recipe.data.sequences):
        colours = [name for name in recipe.data.sequences if recipe.prepare.is_colour(name)]
        yield (
            ("autoencoder", "per_sequence"),
            f"takes sequences of one channel, and {', '.join(colours)} is in colours",
        )
    count, channels = len(recipe.data.sequences), recipe.latent.channels
    if channels % count:
        yield (
            ("latent", "channels"),
            f"received {channels}: {count} sequences are encoded one by one and stacked; legal: "
            f"{count} x the channels of one, such as {count * channels}",
        )


def _scales(latent: Latent, *, mixed: bool) -> Iterator[tuple[KeyPath, str]]:
    if latent.scale_per == "set":
        return
    if not isinstance(latent.scale, str):
        yield (
            ("latent", "scale_per"),
            f"received {latent.scale_per}, and latent.scale gives one number, {latent.scale:g}; "
            "legal: set, or a scale that is measured (exact, first_batch)",
        )
    if latent.scale_per == "sequence" and mixed:
        yield (
            ("latent", "scale_per"),
            "received sequence, and every channel of the latent is of all sequences; legal: set, "
            "channel, or autoencoder.per_sequence: true",
        )


def _optional(
    data: Data, evaluate: Evaluate, autoencoder: AutoencoderBlock
) -> Iterator[tuple[KeyPath, str]]:
    optional = data.optional
    if not optional:
        return
    names = ", ".join(optional)
    if not autoencoder.per_sequence:
        yield (
            ("data", "optional"),
            f"received {names}: a case that lacks a sequence needs latents of each by itself; "
            "legal: with autoencoder.per_sequence: true",
        )
    if evaluate.sequence in optional:
        yield (
            ("evaluate", "sequence"),
            f"received {evaluate.sequence}, which real cases may lack; legal: "
            f"{', '.join(name for name in data.sequences if name not in optional)}",
        )


def _online(latent: Latent, prepare: Prepare) -> Iterator[tuple[KeyPath, str]]:
    if latent.source == "online":
        if latent.variations:
            yield (
                ("latent", "variations"),
                f"received {latent.variations}, and variations lie in a cache; legal: 0 with "
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
            f"received {latent.crop}; legal: one number an axis, at most those of prepare.size, "
            f"{prepare.size}",
        )
