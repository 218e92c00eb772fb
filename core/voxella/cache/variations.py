"""Augmented variations of training cases: which there are, and the image of each.

A variation is an entry of the latent cache beside its case, encoded once. What happens to its image
is a function of (seed, case id, number), and part of what the entry is made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from voxella.data.volumes import PreparedVolumes
from voxella.hashing import sha256_json
from voxella.imaging.augment import Change, augmented, draw
from voxella.recipe.inputs import Latent

__all__ = ["Variation", "read_entry", "variations_of"]


@dataclass(frozen=True)
class Variation:
    """One variation of a case.

    Attributes:
        case_id: The case.
        number: From 1 on; the case itself is 0.
        change: What happens to its image.
        source: Hash of what decides its image.
    """

    case_id: str
    number: int
    change: Change
    source: str

    def as_json(self) -> dict[str, Any]:
        """Return what an index tells of it, JSON-ready."""
        return {"of": self.case_id, "number": self.number, "change": self.change.as_json()}


def variations_of(latent: Latent, seed: int, volumes: PreparedVolumes) -> dict[str, Variation]:
    """Return the variations of all training cases by their entries in the cache.

    Args:
        latent: The recipe's block.
        seed: The recipe's.
        volumes: The prepared data set.
    """
    sources, decides, found = volumes.sources, latent.augment.decides(), {}
    for case_id in volumes.ids_of("train") if latent.variations else ():
        for number in range(1, latent.variations + 1):
            change = draw(
                latent.augment, len(latent.size), seed=seed, case_id=case_id, epoch=number
            )
            source = sha256_json([sources[case_id], decides, seed, number])
            # No case id holds a plus sign.
            found[f"{case_id}+{number}"] = Variation(case_id, number, change, source)
    return found


def read_entry(volumes: PreparedVolumes, variations: Mapping[str, Variation], entry: str) -> Tensor:
    """Return the image of a case, or of a variation, ``(C, *spatial)`` float32 in [0, 1]."""
    variation = variations.get(entry)
    if variation is None:
        return volumes.read(entry)
    image = volumes.read(variation.case_id)
    return augmented(image, variation.change, volumes.spacing_mm(variation.case_id))
