"""From a data set to the keys that follow from it: grid, crop and token limit."""

from __future__ import annotations

from typing import Any

from voxella.cache.text_encoder import build_text_encoder
from voxella.case import Manifest
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.forecast.fingerprint import (
    evenly,
    propose_grid,
    read_fingerprint,
    target_spacing,
    token_limit,
)
from voxella.forecast.profile import grid_overrides
from voxella.limits import VOXELS
from voxella.plugins.component import Component
from voxella.progress import print_line
from voxella.recipe.inputs import Data, Latent, Prepare, Text

__all__ = ["halvings_of", "propose_from_data"]


def propose_from_data(
    data: Data, prepare: Prepare, latent: Latent, backbone: Component, text: Text | None
) -> dict[str, Any]:
    """Return the keys of a profile that follow from the data set that ``data`` names.

    Raises:
        UserError: There is no such data set, or nothing is known of its images.
    """
    assert data.dataset is not None, "the command line names one"
    manifest = Manifest.read(data.dataset)
    first = data.sequences[0]
    found = read_fingerprint(manifest, first, colour=prepare.is_colour(first))
    axes = len(prepare.size)
    seen = latent.crop or prepare.size
    factor = max(1, seen[0] // latent.size[0])
    most = min(VOXELS.most, 512**axes)
    grid = propose_grid(found, axes, factor, halvings_of(backbone), most)
    unit = "mm" if found.in_mm else "pixels"
    target = target_spacing(found.spacings, found.shapes)[:axes]
    print_line(
        f"{len(found.spacings)} of {found.of} training images of {first}: target spacing "
        f"{_listed(target.tolist())} {unit} (median; of a far coarser axis its finer tenth), "
        f"median extent {_listed(grid.crop)} {unit}; proposed {_listed(grid.size)} voxels of "
        f"{_listed(grid.spacing)} {unit}; {grid.padded:.0%} are shorter than the crop and padded"
    )
    if not found.in_mm and prepare.crop_voxels is None:
        prepare = prepare.model_copy(update={"crop_voxels": [None] * axes})
    return grid_overrides(grid, prepare, None if text is None else _tokens(manifest, text))


def halvings_of(backbone: Component) -> int:
    """Return how often a backbone halves a latent, as far as its arguments say it."""
    arguments = backbone.arguments
    channels, patch = arguments.get("channels"), arguments.get("patch_size")
    if isinstance(patch, int):
        return max(0, (patch - 1).bit_length())
    return max(0, len(channels) - 1) if isinstance(channels, list | tuple) else 0


def _tokens(manifest: Manifest, text: Text) -> int | None:
    """Return a token limit for the reports; None where their tokens cannot be counted."""
    cases = evenly([case for case in manifest.split("train") if case.texts])
    if not cases:
        print_line("no training case has a text: the token limit stays the recipe's")
        return None
    try:
        encoder = build_text_encoder(text, tokens_only=True)
        reports = read_reports(Manifest(manifest.folder, cases))
        counts = encoder.token_counts([report for report in reports.values() if report])
    except UserError as error:
        print_line(f"tokens are not counted, and the limit stays the recipe's: {error.problem}")
        return None
    limit = token_limit(counts)
    cut = sum(count > limit for count in counts)
    print_line(
        f"{len(counts)} texts of {min(counts)} to {max(counts)} tokens: limit {limit} (99 of 100), "
        f"{cut} would be cut"
    )
    return limit


def _listed(numbers: Any) -> str:  # noqa: ANN401 - numbers of any kind
    return " x ".join(f"{number:.4g}" for number in numbers)
