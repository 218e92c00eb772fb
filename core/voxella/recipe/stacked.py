"""Several sequences in one latent: what a recipe's blocks have to say together."""

from __future__ import annotations

from collections.abc import Iterator

from voxella.recipe.model import Recipe
from voxella.recipe.shape import KeyPath

__all__ = ["stacked"]


def stacked(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """An autoencoder that runs over each sequence: one network, so it is trained on one."""
    if not recipe.autoencoder.per_sequence:
        return
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
