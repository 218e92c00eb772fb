"""The sample stage: one synthetic case for every case of the splits, from its own report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxella.case import MANIFEST, Case, Manifest
from voxella.case.texts import texts_of
from voxella.data.pseudonyms import Pseudonyms
from voxella.engine.runtime import barrier, broadcast_object, start_distributed
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.ldm.conditions import refuse_other, refuse_values
from voxella.ldm.model_folder.facts import ModelFacts, load_facts
from voxella.limits import SAMPLES
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.recipe.sampling import Sample, variant_name
from voxella.sampling.batches import make_missing
from voxella.sampling.model_folder import refuse_without_autoencoder
from voxella.sampling.pair import keep_pair
from voxella.sampling.prompt_files import prompt_cases
from voxella.sampling.prompt_values import PromptRules
from voxella.sampling.sheet import keep_sheet
from voxella.sampling.space import Scans
from voxella.sampling.told import origin_of
from voxella.sampling.volumes import (
    SampleJob,
    SampleSet,
    drop_real_names,
    is_done,
    source_name,
    write_dataset,
)
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["cases_to_sample", "sample", "variants"]

# What decides which volumes there are, and how many at a time, decides none of them.
_NOT_OF_A_VOLUME = ("batch_size", "count", "per_case", "sweep", "prompts", "xlsx", "split", "pair")


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
            folder = samples / variant_name(steps, guidance)
            yield recipe.model_copy(update={"sample": settings}), folder


def sample(recipe: Recipe, run: Path, model: Path | None = None) -> Path:
    """Generate volumes with the run's exported model; every process of the job calls this.

    Args:
        recipe: The experiment.
        run: The run folder.
        model: Another exported model folder, used in place of the run's.

    A volume already there, made by the same model and settings, is not made again, so a killed
    run continues. A volume depends on seed and case alone: neither a kill nor the number of
    processes changes a byte of it, on the same kind of device with as many threads. With
    ``sample.batch_size`` 1, the reference, nothing else does. In larger batches the volumes beside
    it (and so ``sample.count``) and how many of them are decoded together change its last bits:
    in float32 by one grey of int16 at most.

    Returns:
        The folder of the synthetic data set: ``manifest.jsonl``, ``volumes/``, ``montage.png``. Of
        a sweep, the folder that holds one such folder for each combination.

    Raises:
        UserError: There is no exported model; a split has no case; a prompt cannot be read.
    """
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    if model is not None:
        folders = replace(folders, given=Path(model).absolute())
        refuse_without_autoencoder(recipe.autoencoder_training, folders)
    facts = load_facts(folders.model)
    refuse_other(recipe.conditions, facts.conditions)
    if recipe.sample.prompts is None:
        cases = cases_to_sample(recipe.sample, Manifest.read(folders.prepared))
    else:
        asked = prompt_cases(recipe.sample, PromptRules.of(recipe, facts))
        cases = asked[: recipe.sample.count]
    refuse_values(recipe.conditions, cases)
    for variant, out in variants(recipe, folders.samples):
        _sample_one(variant, folders, facts, cases, out, ranks)
    if recipe.sample.pair is not None and ranks.is_main:
        keep_pair(recipe.sample.pair, recipe.sample, recipe.seed, folders, facts.weights_sha256)
    barrier()
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
    if not recipe.conditions:
        # What is not there cannot be lacking; volumes from before are those without it.
        decides["guidance_null"] = [n for n in decides["guidance_null"] if n != "conditions"]
    origin = {"model": facts.weights_sha256, "seed": recipe.seed, **decides}
    origin |= origin_of(recipe.sample, recipe.prepare, recipe.data.sequences)
    names = _names(folders, cases, ranks, real=recipe.sample.prompts is None)
    conditions, source = list(recipe.conditions), recipe.text_source
    asked = {case.id: _asked_of(conditions, source, case) for case in cases}
    jobs = _jobs(recipe.sample.per_case, cases, asked, origin, names)
    made_of = {**origin, "xlsx": recipe.sample.xlsx}
    record = StageRecord(
        out, "sample", {**made_of, "samples": [job.decides_sha256 for job in jobs]}
    )
    data_set = SampleSet(recipe, folders, out, origin, Scans(folders), names)
    missing = {job.sample_id for job in jobs if not is_done(out, job)}
    current = broadcast_object(record.is_current() and not missing)
    barrier()  # No process may still be looking when another begins to write.
    if current:
        print_line(f"sample: up to date, {out}", quiet=not ranks.is_main)
        if ranks.is_main:
            keep_sheet(recipe.data, out, asked=recipe.sample.xlsx, anew=False)
        barrier()
        return
    if ranks.is_main:
        record.invalidate()
    # Shared by what rank 0 sees to be missing: over a network another may see it later.
    missing = broadcast_object(missing)
    if ranks.is_main:
        drop_real_names(out, jobs)
    if missing:
        make_missing(data_set, jobs, missing, ranks)
    barrier()
    if ranks.is_main:
        write_dataset(out, jobs, recipe.data.sequences[0])
        keep_sheet(recipe.data, out, asked=recipe.sample.xlsx, anew=True)
        record.complete([MANIFEST], volumes=len(jobs))
    barrier()


def _names(folders: Folders, cases: list[Case], ranks: Ranks, *, real: bool) -> Pseudonyms:
    """Return the run's pseudonyms; the key is drawn by one process, before the others look."""
    if ranks.is_main:
        names = Pseudonyms.of(folders.run)
        names.check(cases)
        if real:
            names.write_table(folders.run, cases)
    barrier()
    return Pseudonyms.of(folders.run)


def cases_to_sample(settings: Sample, prepared: Manifest, *, quiet: bool = True) -> list[Case]:
    """Return the real cases that volumes are made for.

    Of several splits some may be without cases, which is said, unless ``quiet``.

    Raises:
        UserError: No split that is named has a case.
    """
    of_splits = {
        name: sorted(prepared.split(name), key=lambda case: case.id) for name in settings.splits
    }
    empty = [name for name, cases in of_splits.items() if not cases]
    if len(empty) == len(of_splits):
        there = [name for name in ("train", "val", "test") if prepared.split(name)]
        raise UserError(
            "\n".join(f"the split {name} has no case" for name in empty),
            expected=f"{', '.join(there)}, or several of them" if len(there) > 1 else None,
            remedy=f"--set sample.split={next(iter(there), 'train')}",
        )
    for name in empty:
        print_line(f"warning: the split {name} has no case to make volumes for", quiet=quiet)
    return [case for cases in of_splits.values() for case in cases[: settings.count]]


def _jobs(
    per_case: int,
    cases: list[Case],
    asked: Mapping[str, list[Any]],
    origin: dict[str, Any],
    names: Pseudonyms,
) -> list[SampleJob]:
    """Return a job for every volume; pseudonyms and prompts' ids leave room for its number.

    Args:
        per_case: Volumes of a case.
        cases: Whose counterparts they are.
        asked: What a volume takes from its case, by id.
        origin: What else decides them.
        names: What stands for real ids.

    Raises:
        UserError: There would be more than the limit.
    """
    SAMPLES.require(len(cases) * per_case, "sample.per_case and sample.count ask for")
    return [
        SampleJob(
            case,
            f"{case.id}-s{number:03d}",
            (name := f"{source_name(names, case)}-s{number:03d}"),
            sha256_json([origin, name, names.mark("asked", sha256_json(asked[case.id]))]),
        )
        for case in cases
        for number in range(per_case)
    ]


def _asked_of(conditions: list[str], text_source: str, case: Case) -> list[Any]:
    """Return what a volume takes from its case: prompt, label, spacing, conditions."""
    values = {name: case.conditions.get(name) for name in conditions}
    told: list[Any] = [values] if values else []
    told += [given] if (given := case.extra.get("given_sha256")) else []
    names = texts_of(case.texts_sha256, text_source)
    texts = [case.texts_sha256[name] for name in names]
    # One text as it always was; of several each, for the first may say nothing.
    prompt = texts if len(texts) > 1 else next(iter(texts), None)
    return [prompt, case.label, case.extra.get("spacing_mm"), *told]
