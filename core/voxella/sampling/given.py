"""Sequences that a prompt gives: read, prepared as the training cases were, and held.

The others are generated to go with them, such as the ADC map of a T2w. What is given is written as
it was prepared, not as the autoencoder would give it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import read_image, read_volume
from voxella.ldm.held import Held
from voxella.machine import raise_if_machine
from voxella.recipe.inputs import Prepare
from voxella.sampling.networks import GeneratedImage, Networks

__all__ = ["GivenImages", "GivenRules", "read_given", "wrong_given"]


@dataclass(frozen=True)
class GivenRules:
    """What given sequences are held to.

    Attributes:
        sequences: The recipe's.
        prepare: How the training cases were prepared.
        per_sequence: Whether latents are of each sequence by itself.
    """

    sequences: Sequence[str]
    prepare: Prepare
    per_sequence: bool


@dataclass(frozen=True)
class GivenImages:
    """Prepared images of some sequences of a case.

    Attributes:
        voxels: ``(C, *spatial)`` in [0, 1], by sequence of the recipe; zeros where not given.
        places: Of the given ones among the sequences.
        spacing_mm: Edges of a voxel; None where the files do not say.
        sha256: Of each file, by name.
    """

    voxels: Tensor
    places: tuple[int, ...]
    spacing_mm: tuple[float, ...] | None
    sha256: dict[str, str]

    @torch.no_grad()
    def held(self, plan: AutoencoderPlan, networks: Networks) -> Held:
        """Return the latents of the given sequences: the means, so that nothing is drawn."""
        mean, _ = networks.decoder.encode(self.voxels[None].to(networks.device))
        channels = torch.zeros(plan.latent.channels, dtype=torch.bool)
        channels[list(plan.latent_channels(self.places))] = True
        return Held(mean[0].float().cpu(), channels)

    def in_place(self, made: GeneratedImage) -> GeneratedImage:
        """Return a generated image with the given sequences as they were prepared."""
        array = made.array.copy()
        array[list(self.places)] = self.voxels[list(self.places)].numpy()
        return replace(made, array=array)


def read_given(files: Mapping[str, str], rules: GivenRules) -> GivenImages:
    """Read and prepare what a prompt gives.

    Args:
        files: By sequence; the mask of ``prepare.crop_around`` is one of them.
        rules: What they are held to.

    Raises:
        UserError: A file cannot be read, or not be prepared.
    """
    prepare, sequences = rules.prepare, rules.sequences
    names = [name for name in sequences if name in files]
    volumes = {name: read_image(Path(files[name])) for name in names}
    around = prepare.crop_around
    mask = read_volume(Path(files[around])) if around is not None and around in files else None
    made = prepare_images(volumes, prepare, mask)
    known = {name: torch.from_numpy(array).float() for name, array in made.images.items()}
    nothing = torch.zeros_like(known[names[0]])
    edges = made.facts.get("spacing_mm")
    return GivenImages(
        torch.stack([known.get(name, nothing) for name in sequences]),
        tuple(place for place, name in enumerate(sequences) if name in known),
        None if edges is None else tuple(float(edge) for edge in edges),
        {name: sha256_file(Path(path)) for name, path in files.items()},
    )


def wrong_given(files: Mapping[str, str], rules: GivenRules) -> Iterator[str]:
    """Yield what is wrong with the sequences that a prompt gives, files by sequence."""
    around, sequences = rules.prepare.crop_around, rules.sequences
    if not rules.per_sequence:
        yield "given: needs a model whose latents are of each sequence (autoencoder.per_sequence)"
    elif unknown := [n for n in files if n not in sequences and n != around]:
        expected = ", ".join(sequences)
        told = f"given: {len(unknown)} names that are no sequence of the recipe"
        yield f"{told}; expected: {expected}"
    elif not any(name in files for name in sequences):
        yield f"given: no sequence beside the mask; expected: {', '.join(sequences)}"
    elif all(name in files for name in sequences):
        yield "given: every sequence is given, so there is nothing to generate"
    elif around is not None and around not in files:
        yield f"given: {around}, the mask that prepare.crop_around names, has to be given, too"
    else:
        try:
            read_given(files, rules)
        except UserError as error:
            raise_if_machine(error)
            yield f"given: {error.problem}"
