"""`voxella encode`: volumes to latents and reports to token features, each cached once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cache.encode_latents import LatentEncoding
from voxella.cache.encode_text import TextEncoding
from voxella.cache.synthetic_texts import synthetic_texts
from voxella.case import Manifest
from voxella.case.texts import split_text_id
from voxella.data.quarantine import quarantined
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.progress import print_line
from voxella.recipe.model import Recipe, Text

__all__ = ["LATENTS", "TEXT", "encode"]

LATENTS = "latents"
TEXT = "text"
_T = TypeVar("_T")


def encode(
    recipe: Recipe,
    prepared: Path,
    dataset: Path,
    work: Path,
    autoencoder_dir: Path | None,
    *,
    rank: int = 0,
    world: int = 1,
    device: str = "auto",
) -> None:
    """Fill ``work/latents`` and, when the recipe reads text, ``work/text``.

    The two are independent: either is left alone while it is up to date. Each rank encodes its
    own cases and rank 0 joins the indices last; connected processes all return when the caches
    are complete. Processes that are not connected may run one after another in any order, as long
    as rank 0 runs once more when the others are done.

    Args:
        recipe: The experiment.
        prepared: The prepared data set: volumes.
        dataset: The imported data set: reports.
        work: Folder of the caches.
        autoencoder_dir: What ``voxella train-autoencoder`` wrote; None when the recipe names
            weights instead.
        rank: This process's number.
        world: Number of processes.
        device: ``auto``, ``cpu``, ``cuda``... for the autoencoder; a text encoder has its own
            argument.

    Raises:
        UserError: Every problem that can be seen before the work starts, at once; later, one that
            only the work brings up.
    """
    problems: list[UserError] = []
    text = latents = None
    if recipe.text is not None:
        settings = recipe.text
        without = quarantined(prepared)
        text = _planned(lambda: _text(settings, dataset, without, work / TEXT), problems)
    plan = AutoencoderPlan.of(recipe)
    if recipe.latent.source == "cached":
        latents = _planned(
            lambda: LatentEncoding(plan, prepared, work / LATENTS, autoencoder_dir), problems
        )
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise UserError("\n".join(str(problem) for problem in problems))
    # Text first: its encoder is gone from memory before the autoencoder is loaded.
    if text is not None:
        text.run(rank=rank, world=world, then_bytes=latents.missing_bytes if latents else 0)
    if latents is not None:
        latents.run(rank=rank, world=world, device=device)
    else:
        print_line("latents: none are cached, training encodes them as it goes", quiet=rank != 0)


def _text(settings: Text, dataset: Path, without: Collection[str], folder: Path) -> TextEncoding:
    """Plan the text half; cases that are not prepared are not trained on, and left out."""
    manifest = Manifest.read(dataset)
    texts = read_reports(manifest, without)
    if settings.synthesise is not None:
        written = synthetic_texts(settings.synthesise, manifest)
        texts |= {name: text for name, text in written.items() if split_text_id(name)[0] in texts}
    return TextEncoding(settings, texts, folder)


def _planned(make: Callable[[], _T], problems: list[UserError]) -> _T | None:
    try:
        return make()
    except UserError as problem:
        raise_if_machine(problem)
        problems.append(problem)
        return None
