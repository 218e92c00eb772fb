"""Batches of synthetic volumes: cut alike by every run, shared by the processes, made whole.

What shares a batch with a volume touches its last bits. So that neither a kill nor the number of
processes changes a byte, batches are cut from all volumes of the data set by their place in it, and
one in which something is missing is made again as a whole; only what is missing is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from voxella.autoencoder.load import AutoencoderPlan
from voxella.cache.text import TextCache
from voxella.case import MANIFEST, Case
from voxella.diffusion.samplers import make_sampler
from voxella.engine.runtime import barrier
from voxella.ldm.generate import GenerationSettings
from voxella.ldm.request import Request, request_for
from voxella.progress import Steps
from voxella.ranks import Ranks
from voxella.recipe.condition import Condition
from voxella.recipe.inputs import Text
from voxella.sampling.given import GivenImages, GivenRules, read_given
from voxella.sampling.networks import Networks
from voxella.sampling.prompt_files import read_prompts
from voxella.sampling.prompts import CachedPrompts, Prompts, TextPrompts
from voxella.sampling.sheet import drop_sheet
from voxella.sampling.volumes import SampleJob, SampleSet, keep_volume
from voxella.workspace.folders import Folders

__all__ = ["make_missing"]

_Batch = Sequence[SampleJob]


def make_missing(
    data_set: SampleSet,
    jobs: Sequence[SampleJob],
    missing: Collection[str],
    ranks: Ranks,
) -> None:
    """Make this process's share of the volumes; collective.

    Args:
        data_set: What they belong to.
        jobs: All volumes of the data set.
        missing: Those to make, by ``sample_id``.
        ranks: Who this process is.

    Raises:
        UserError: Autoencoder or text features are not those that the model was trained with.
    """
    recipe, folders = data_set.recipe, data_set.folders
    batches = _share(jobs, recipe.sample.batch_size, missing, ranks)
    # First of all: a text encoder may need all the memory that the other networks will have.
    cases = [job.case for batch in batches for job in batch]
    prompts = _prompts(recipe.text, recipe.sample.prompts, folders, cases, ranks)
    networks = Networks.load(
        AutoencoderPlan.of(recipe),
        recipe.sample,
        folders.model,
        folders.autoencoder,
        ranks.device,
        text=None if prompts is None else prompts.fingerprint,
        out=data_set.out,
        quiet=not ranks.is_main,
    )
    if ranks.is_main:
        # They tell of volumes that may now be replaced by others.
        (data_set.out / MANIFEST).unlink(missing_ok=True)
        drop_sheet(data_set.out)
    barrier()
    classes, conditions, plan = recipe.data.classes, recipe.conditions, AutoencoderPlan.of(recipe)
    rules = GivenRules(plan.sequences, recipe.prepare, plan.component.per_sequence)
    given = _given(recipe.sample.prompts, rules, [case.id for case in cases])
    schedule, settings = networks.model.schedule, GenerationSettings.of(recipe)
    steps = make_sampler(recipe.sample.sampler, schedule, recipe.sample.steps).steps
    with Steps("sampling", len(batches) * steps, quiet=not ranks.is_main) as progress:
        for batch in batches:
            own = [given.get(job.case.id) for job in batch]
            held = [None if one is None else one.held(plan, networks) for one in own]
            bare = [_request(classes, conditions, job, prompts) for job in batch]
            requests = [replace(r, held=one) for r, one in zip(bare, held, strict=True)]
            wanted = {number for number, job in enumerate(batch) if job.sample_id in missing}
            made = networks.images(
                settings, requests, wanted, on_step=lambda done, total: progress.advance()
            )
            for number, image in made:
                kept = own[number]
                keep_volume(
                    data_set, batch[number], image if kept is None else kept.in_place(image)
                )


def _request(
    classes: list[str],
    conditions: Mapping[str, Condition],
    job: SampleJob,
    prompts: Prompts | None,
) -> Request:
    features = None if prompts is None else prompts.features(job.case)
    return request_for(classes, conditions, job.case, features, job.sample_id)


def _share(
    jobs: Sequence[SampleJob], size: int, missing: Collection[str], ranks: Ranks
) -> list[_Batch]:
    """Return this process's batches in which something is missing, each of them whole."""
    whole = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    todo = [batch for batch in whole if any(job.sample_id in missing for job in batch)]
    return [todo[index] for index in ranks.share(len(todo))]


def _given(file: Path | None, rules: GivenRules, asked: Collection[str]) -> dict[str, GivenImages]:
    """Return what the prompts asked for give, prepared, by id."""
    prompts = [] if file is None else read_prompts(file)[0].values()  # judged before
    return {
        prompt.id: read_given(prompt.given, rules)
        for prompt in prompts
        if prompt.given and prompt.id in asked
    }


def _prompts(
    text: Text | None, file: Path | None, folders: Folders, cases: list[Case], ranks: Ranks
) -> Prompts | None:
    if text is None:
        return None
    if file is not None:
        read = read_prompts(file)[0].values()  # judged before
        texts = {prompt.id: prompt.report for prompt in read}
        return TextPrompts(text, texts, folders.text, folders.prompts, ranks)
    return CachedPrompts(TextCache.open(folders.text, text), cases)
