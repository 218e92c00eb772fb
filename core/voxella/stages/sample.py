"""The sample stage: one synthetic case for every case of a split, from its own report."""

from __future__ import annotations

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
from voxella.progress import Steps
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder_model import LoadedAutoencoder, load_autoencoder
from voxella.stages.folders import Folders
from voxella.stages.panels import request_for
from voxella.stages.record import StageRecord
from voxella.stages.sample_volumes import SampleJob, is_done, keep_volume, write_dataset

__all__ = ["sample"]


def sample(recipe: Recipe, run: Path) -> Path:
    """Generate volumes with the run's exported model; every process of the job calls this.

    A volume already there, made by the same model and settings, is not made again, so a killed
    run continues. A volume depends on seed and case alone; batches and processes change it by
    rounding errors at most.

    Returns:
        The folder of the synthetic data set: ``manifest.jsonl``, ``volumes/``, ``montage.png``.

    Raises:
        UserError: There is no exported model, or the split has no case.
    """
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    folders = Folders.of(recipe, run)
    facts = load_facts(folders.model)
    prepared = Manifest.read(folders.prepared)
    settings = recipe.sample.model_dump(mode="json")
    # Batches do not change a volume, so they do not make one stale.
    decides = {k: v for k, v in settings.items() if k not in ("batch_size", "count", "per_case")}
    origin = {"model": facts.weights_sha256, "seed": recipe.seed, **decides}
    jobs = _jobs(recipe, prepared, origin)
    record = StageRecord(
        folders.samples, "sample", {**origin, "samples": [job.decides_sha256 for job in jobs]}
    )
    missing = {job.sample_id for job in jobs if not is_done(folders.samples, job)}
    current = agreed(record.is_current() and not missing)
    barrier()  # No process may still be looking when another begins to write.
    if current:
        return folders.samples

    if ranks.is_main:
        record.invalidate()
    mine = [jobs[index] for index in ranks.share(len(jobs))]
    todo = [job for job in mine if job.sample_id in missing]
    if todo:
        _generate_all(recipe, folders, facts, todo, origin, ranks)
    barrier()
    if ranks.is_main:
        write_dataset(recipe, folders, jobs)
        record.complete(volumes=len(jobs))
    barrier()
    return folders.samples


def _jobs(recipe: Recipe, prepared: Manifest, origin: dict[str, Any]) -> list[SampleJob]:
    cases = sorted(prepared.split(recipe.sample.split), key=lambda case: case.id)
    if not cases:
        raise UserError(
            f"the split {recipe.sample.split} has no case",
            remedy="--set sample.split=train",
        )
    chosen = cases[: recipe.sample.count]
    return [
        SampleJob(case, sample_id, sha256_json([origin, sample_id, _asked_of(case)]))
        for case in chosen
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
    ranks: Ranks,
) -> None:
    model = load_model(folders.model).to(ranks.device)
    coder = load_autoencoder(recipe, folders.autoencoder, ranks.device)
    autoencoder = coder.model
    text = TextCache.open(folders.text, recipe.text) if recipe.text else None
    _check_belongs_together(facts, coder, text)
    if text is not None:
        text.require(job.case.id for job in jobs)
    steps = make_sampler(recipe.sample.sampler, model.schedule, recipe.sample.steps).steps
    size = recipe.sample.batch_size
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    with Steps("sampling", len(batches) * steps, quiet=not ranks.is_main) as progress:
        for batch in batches:
            requests = [request_for(recipe, job.case, text, job.sample_id) for job in batch]
            made = generate(
                model,
                recipe,
                requests,
                device=ranks.device,
                on_step=lambda done, total: progress.advance(),
            )
            for number, job in enumerate(batch):
                keep_volume(recipe, folders, job, made, number, autoencoder, origin)


def _check_belongs_together(
    facts: ModelFacts, coder: LoadedAutoencoder, text: TextCache | None
) -> None:
    """Refuse to decode or to prompt with other networks than the model was trained with."""
    problems = []
    if coder.fingerprint != facts.autoencoder_fingerprint:
        problems.append("the autoencoder is not the one whose latents the model has learnt")
    if text is not None and facts.text is not None and text.fingerprint != facts.text["encoder"]:
        problems.append("the text features are not of the encoder that the model was trained with")
    if problems:
        raise UserError("\n".join(problems), remedy="voxella train RECIPE   (trains anew on these)")
