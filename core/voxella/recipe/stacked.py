"""Several sequences in one latent: what a recipe's blocks have to say together."""

from __future__ import annotations

from collections.abc import Iterator

from voxella.recipe.inputs import Latent
from voxella.recipe.model import Recipe
from voxella.recipe.shape import KeyPath

__all__ = ["stacked"]


def stacked(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Yield what does not fit of stacked sequences and of factors on their latents."""
    several = len(recipe.data.sequences) > 1
    yield from _scales(recipe.latent, mixed=several and not recipe.autoencoder.per_sequence)
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
            f"received {channels}: {count} sequences are encoded one by one and stacked; expected: "
            f"{count} x the channels of one, such as {count * channels}",
        )


def _scales(latent: Latent, *, mixed: bool) -> Iterator[tuple[KeyPath, str]]:
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
