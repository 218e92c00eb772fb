"""The sample stage: one synthetic case for every case of a split, from its own report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.diffusion.samplers import make_sampler
from voxella.engine.ranks import Ranks
from voxella.engine.runtime import agreed, barrier, start_distributed
from voxella.errors import UserError
from voxella.export import ModelFacts, load_facts, load_model
from voxella.files import sha256_json
from voxella.generate import generate
from voxella.plugins.contracts import Autoencoder
from voxella.progress import Steps, say
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder_model import LoadedAutoencoder, load_autoencoder
from voxella.stages.folders import Folders
from voxella.stages.panels import request_for
from voxella.stages.prompts import CachedPrompts, FilePrompts, Prompts, prompt_cases
from voxella.stages.record import StageRecord
from voxella.stages.sample_volumes import SampleJob, is_done, keep_volume, write_dataset
from voxella.stages.tiling import tiled

__all__ = ["sample", "variants"]

# What decides which volumes there are, and how many at a time, decides none of them.
_NOT_OF_A_VOLUME = ("batch_size", "count", "per_case", "sweep", "prompts", "xlsx", "split")


def variants(recipe: Recipe, samples: Path) -> Iterator[tuple[Recipe, Path]]:
    """Yield the recipe and folder of each data set that ``sample.sweep`` asks for; else the one."""
    sweep = recipe.sample.sweep
    if sweep is None:
        yield recipe, samples
        return
    for steps in sweep.steps or [recipe.sample.steps]:
        for guidance in sweep.guidance or [recipe.sample.guidance]:
            changed = {"sweep": None, "steps": steps, "guidance": guidance}
            settings = recipe.sample.model_copy(update=changed)
            folder = samples / f"steps-{steps}_guidance-{guidance:g}"
            yield recipe.model_copy(update={"sample": settings}), folder


def sample(recipe: Recipe, run: Path) -> Path:
    """Generate volumes with the run's exported model; every process of the job calls this.

    A volume already there, made by the same model and settings, is not made again, so a killed
    run continues. A volume depends on seed and case alone; batches and processes change it by
    rounding errors at most.

    Returns:
        The folder of the synthetic data set: ``manifest.jsonl``, ``volumes/``, ``montage.png``. Of
        a sweep, the folder that holds one such folder for each combination.

    Raises:
        UserError: There is no exported model; the split has no case; a prompt cannot be read.
    """
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    folders = Folders.of(recipe, run)
    facts = load_facts(folders.model)
    cases = _cases(recipe, folders, facts)
    for variant, out in variants(recipe, folders.samples):
        _sample_one(variant, folders, facts, cases, out, ranks)
    return folders.samples


def _sample_one(
    recipe: Recipe,
    folders: Folders,
    facts: ModelFacts,
    cases: list[Case],
    out: Path,
    ranks: Ranks,
) -> None:
    """Make one data set."""
    settings = recipe.sample.model_dump(mode="json")
    decides = {k: v for k, v in settings.items() if k not in _NOT_OF_A_VOLUME}
    origin = {"model": facts.weights_sha256, "seed": recipe.seed, **decides}
    jobs = _jobs(recipe, cases, origin)
    made_of = {**origin, "xlsx": recipe.sample.xlsx}
    record = StageRecord(
        out, "sample", {**made_of, "samples": [job.decides_sha256 for job in jobs]}
    )
    missing = {job.sample_id for job in jobs if not is_done(out, job)}
    current = agreed(record.is_current() and not missing)
    barrier()  # No process may still be looking when another begins to write.
    if current:
        say(f"sample: up to date, {out}", quiet=not ranks.is_main)
        return
    if ranks.is_main:
        record.invalidate()
    mine = [jobs[index] for index in ranks.share(len(jobs))]
    todo = [job for job in mine if job.sample_id in missing]
    if agreed(bool(missing)):
        coder = load_autoencoder(recipe, folders.autoencoder, ranks.device)
        # Collective, also for a process with nothing left to make: one choice for all volumes.
        decoder = tiled(coder, recipe, ranks.device, out, quiet=not ranks.is_main)
        _generate_all(recipe, folders, facts, todo, origin, out, ranks, coder, decoder)
    barrier()
    if ranks.is_main:
        write_dataset(recipe, out, jobs)
        record.complete(volumes=len(jobs))
    barrier()


def _cases(recipe: Recipe, folders: Folders, facts: ModelFacts) -> list[Case]:
    """Return the cases to make twins of."""
    if recipe.sample.prompts is not None:
        if recipe.sample.space == "source":
            raise UserError(
                "sample.space is source, but prompts have no scan whose grid could be taken",
                remedy="--set sample.space=prepared",
            )
        return prompt_cases(recipe, facts)[: recipe.sample.count]
    prepared = Manifest.read(folders.prepared)
    cases = sorted(prepared.split(recipe.sample.split), key=lambda case: case.id)
    if not cases:
        raise UserError(
            f"the split {recipe.sample.split} has no case",
            remedy="--set sample.split=train",
        )
    return cases[: recipe.sample.count]


def _jobs(recipe: Recipe, cases: list[Case], origin: dict[str, Any]) -> list[SampleJob]:
    return [
        SampleJob(case, sample_id, sha256_json([origin, sample_id, _asked_of(case)]))
        for case in cases
        for sample_id in (f"{case.id}-s{twin:03d}" for twin in range(recipe.sample.per_case))
    ]


def _asked_of(case: Case) -> list[Any]:
    """Return what a volume takes from its case: prompt, label, spacing."""
    return [case.report_sha256, case.label, case.extra["spacing_mm"]]


def _generate_all(
    recipe: Recipe,
    folders: Folders,
    facts: ModelFacts,
    jobs: list[SampleJob],
    origin: dict[str, Any],
    out: Path,
    ranks: Ranks,
    coder: LoadedAutoencoder,
    decoder: Autoencoder,
) -> None:
    if not jobs:
        return
    model = load_model(folders.model).to(ranks.device)
    prompts = _prompts(recipe, folders, [job.case for job in jobs])
    _check_belongs_together(facts, coder, prompts)
    steps = make_sampler(recipe.sample.sampler, model.schedule, recipe.sample.steps).steps
    size = recipe.sample.batch_size
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with Steps("sampling", len(batches) * steps, quiet=not ranks.is_main) as progress:
        for batch in batches:
            requests = [
                request_for(
                    recipe, job.case, prompts.features(job.case) if prompts else None, job.sample_id
                )
                for job in batch
            ]
            made = generate(
                model,
                recipe,
                requests,
                device=ranks.device,
                on_step=lambda done, total: progress.advance(),
            )
            for number, job in enumerate(batch):
                keep_volume(recipe, folders, out, job, made, number, decoder, origin)


def _prompts(recipe: Recipe, folders: Folders, cases: list[Case]) -> Prompts | None:
    if recipe.text is None:
        return None
    if recipe.sample.prompts is not None:
        return FilePrompts(recipe, recipe.sample.prompts, cases)
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
        and facts.text is not None
        and prompts.fingerprint != facts.text["encoder"]
    ):
        problems.append("the text features are not of the encoder that the model was trained with")
    if problems:
        raise UserError("\n".join(problems), remedy="voxella train RECIPE   (trains anew on these)")
