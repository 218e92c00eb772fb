"""Batches of synthetic volumes: cut alike by every run, shared by the processes, made whole.

What shares a batch with a volume touches its last bits. So that neither a kill nor the number of
processes changes a byte, batches are cut from all volumes of the data set by their place in it, and
one in which something is missing is made again as a whole; only what is missing is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from voxella.autoencoder.load import LoadedAutoencoder, load_autoencoder
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.cache.text import TextCache
from voxella.case import MANIFEST, Case
from voxella.diffusion.samplers import make_sampler
from voxella.engine.runtime import barrier
from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import ModelFacts, load_model
from voxella.ldm.generate import Generated, generate, request_for
from voxella.progress import Steps
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.sampling.prompts import CachedPrompts, FilePrompts, Prompts
from voxella.sampling.sheet import drop_sheet
from voxella.sampling.volumes import SampleJob, SampleSet, keep_volume
from voxella.workspace.folders import Folders

__all__ = ["make_missing"]

_Batch = Sequence[SampleJob]


def make_missing(
    data_set: SampleSet,
    facts: ModelFacts,
    jobs: Sequence[SampleJob],
    missing: Collection[str],
    ranks: Ranks,
) -> None:
    """Make this process's share of the volumes; collective.

    Args:
        data_set: What they belong to.
        facts: Of the exported model.
        jobs: All volumes of the data set.
        missing: Those to make, by ``sample_id``.
        ranks: Who this process is.

    Raises:
        UserError: Autoencoder or text features are not those that the model was trained with.
    """
    recipe, folders = data_set.recipe, data_set.folders
    batches = _share(jobs, recipe.sample.batch_size, missing, ranks)
    # First of all: a text encoder may need all the memory that the other networks will have.
    prompts = _prompts(recipe, folders, [job.case for batch in batches for job in batch], ranks)
    model = load_model(folders.model).to(ranks.device)
    coder = load_autoencoder(recipe, folders.autoencoder, ranks.device)
    # With the model in memory, and also for a process that has nothing left to make: one choice
    # for all volumes.
    decoder = tiled(
        coder,
        recipe,
        ranks.device,
        data_set.out,
        batch_size=recipe.sample.batch_size,
        quiet=not ranks.is_main,
    )
    _check_belongs_together(facts, coder, prompts)
    if ranks.is_main:
        # They tell of volumes that may now be replaced by others.
        (data_set.out / MANIFEST).unlink(missing_ok=True)
        drop_sheet(data_set.out)
    barrier()
    steps = make_sampler(recipe.sample.sampler, model.schedule, recipe.sample.steps).steps
    with Steps("sampling", len(batches) * steps, quiet=not ranks.is_main) as progress:
        for batch in batches:
            made = _generated(data_set, model, prompts, batch, ranks, progress)
            _keep(data_set, batch, made, decoder, missing)


def _share(
    jobs: Sequence[SampleJob], size: int, missing: Collection[str], ranks: Ranks
) -> list[_Batch]:
    """Return this process's batches in which something is missing, each of them whole."""
    whole = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    todo = [batch for batch in whole if any(job.sample_id in missing for job in batch)]
    return [todo[index] for index in ranks.share(len(todo))]


def _generated(
    data_set: SampleSet,
    model: LatentDiffusion,
    prompts: Prompts | None,
    batch: _Batch,
    ranks: Ranks,
    progress: Steps,
) -> Generated:
    recipe = data_set.recipe
    requests = [
        request_for(
            recipe, job.case, prompts.features(job.case) if prompts else None, job.sample_id
        )
        for job in batch
    ]
    return generate(
        model,
        recipe,
        requests,
        device=ranks.device,
        on_step=lambda done, total: progress.advance(),
    )


@torch.no_grad()
def _keep(
    data_set: SampleSet,
    batch: _Batch,
    made: Generated,
    decoder: TiledAutoencoder,
    missing: Collection[str],
) -> None:
    """Decode as many of a batch together as memory allows, and write those that are missing."""
    for start in range(0, len(batch), decoder.decode_batch):
        numbers = range(start, min(start + decoder.decode_batch, len(batch)))
        kept = [number for number in numbers if batch[number].sample_id in missing]
        if not kept:
            continue
        images = decoder.decode(made.latents[start : numbers.stop]).float().clamp(0, 1).cpu()
        for number in kept:
            keep_volume(data_set, batch[number], images[number - start].numpy(), made, number)


def _prompts(recipe: Recipe, folders: Folders, cases: list[Case], ranks: Ranks) -> Prompts | None:
    if recipe.text is None:
        return None
    if recipe.sample.prompts is not None:
        return FilePrompts(recipe.text, recipe.sample.prompts, folders.text, folders.prompts, ranks)
    return CachedPrompts(TextCache.open(folders.text, recipe.text), cases)


def _check_belongs_together(
    facts: ModelFacts, coder: LoadedAutoencoder, prompts: Prompts | None
) -> None:
    """Refuse to decode or to prompt with other networks than the model was trained with."""
    problems = []
    if coder.fingerprint != facts.autoencoder_fingerprint:
        problems.append("the autoencoder is not the one whose latents the model has learnt")
    if (
        prompts is not None
        and prompts.fingerprint is not None
        and facts.text is not None
        and prompts.fingerprint != facts.text["encoder"]
    ):
        problems.append("the text features are not of the encoder that the model was trained with")
    if problems:
        raise UserError("\n".join(problems), remedy="voxella train RECIPE   (trains anew on these)")
