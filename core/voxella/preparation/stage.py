"""Stage `prepare`: every case cropped, normalised and resampled, as a data set of its own.

``prepared/`` holds ``manifest.jsonl``, ``images/<id>_<sequence>.nii.gz`` (float32 in [0, 1], RAS),
``cases/<id>.json`` (written after the case's images: a case that has one is done),
``dataset.json`` (which data set it is made from: another does not take its place) and
``stage.json``. A tile of a shard that is as training wants it stays where it is, and has neither:
the manifest names its row. A case is done again when its images' content or the settings change;
nothing else is. Killed at any moment, the stage goes on where it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxella.case import Manifest, manifest_file
from voxella.data.quarantine import QUARANTINE, judge_cases, print_left_out, quarantined
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.imaging.shards import row_of
from voxella.preparation.cases import Job, carried, done_cases, prepared_case, run_jobs
from voxella.preparation.in_place import case_in_place, look_at_tiles, may_stay
from voxella.preparation.origin import Origin
from voxella.preparation.plan import METHOD, plan_jobs
from voxella.progress import print_line
from voxella.recipe.model import Prepare, Recipe
from voxella.workspace.record import StageRecord

__all__ = ["check_prepare", "prepare", "quarantined"]

# Raised when cases are judged by other rules than before.
_RULES = 2
# Below this the angle is the rounding of a header (degrees).
_OBLIQUE = 0.1


def prepare(
    recipe: Recipe,
    dataset: Path,
    out: Path,
    *,
    workers: int = 0,
    quarantine: bool | None = False,
) -> Manifest:
    """Prepare every case of a data set and return the prepared manifest, in the same order.

    A prepared case keeps its id, group, split, label and ``texts_sha256``; its texts stays in
    the data set. Its ``extra`` gains :attr:`voxella.imaging.prepare.Prepared.facts` and
    ``prepared_sha256``, which changes with the case's voxels. Nothing but the images and the recipe
    decides the result.

    Args:
        recipe: Its ``prepare`` block and ``data.sequences`` are read.
        dataset: Folder with a manifest.
        out: Folder of the prepared data set.
        workers: Processes; 0: as many as cores, where there are cases enough; 1: none but this.
        quarantine: Leave out cases that cannot be prepared and list them in ``quarantine.json``.
            None: where an earlier call did so and nothing has changed since, that stands.

    Raises:
        UserError: Cases cannot be prepared: all of them in one message, after the others are done;
            or ``out`` holds cases of another data set.
    """
    out = Path(out)
    settings, sequences = recipe.prepare, recipe.data.sequences
    optional = recipe.data.optional
    check_prepare(settings, workers)
    _print_unused(settings, sequences)
    source = Manifest.read(dataset)
    if not source.cases:
        raise UserError(f"{manifest_file(source.folder)}: no case in it")
    # By ids alone at first: another data set's images would be read for nothing.
    _origin(source, out, {})
    jobs, problems = plan_jobs(settings, sequences, optional, source, out)
    _origin(source, out, jobs).write(out)
    record = StageRecord(out, "prepare", _inputs(settings, sequences, source, jobs))
    if _is_current(record, quarantine):
        print_line(f"prepare: up to date, {out}")
        print_left_out(out, len(source))
        return Manifest.read(out)
    record.invalidate()
    tiles = look_at_tiles([job for job in jobs.values() if may_stay(job)], workers)
    problems |= tiles.problems
    settled = {*tiles.staying, *problems}
    pending = [j for j in jobs.values() if j.case not in settled and j.facts() is None]
    problems |= run_jobs(pending, workers)
    judge_cases(out, problems, total=len(source), quarantine=bool(quarantine))
    kept = ((case, jobs[case.id]) for case in source if case.id not in problems)
    cases = (
        case_in_place(case, job, tiles) if case.id in tiles.staying else prepared_case(case, job)
        for case, job in kept
    )
    manifest = Manifest(out, cases)
    written = manifest.write()
    facts = _summary(settings, manifest)
    listed = [QUARANTINE] if problems else []
    record.complete(
        [written.name, *listed],
        cases=len(manifest),
        newly_prepared=len(pending),
        read_in_place=len(tiles.staying),
        quarantined=len(problems),
        **facts,
    )
    return manifest


def check_prepare(settings: Prepare, workers: int) -> None:
    """Refuse settings that make no sense, all of them at once.

    Raises:
        UserError: What is wrong.
    """
    problems = []
    name = "crop_mm" if settings.crop_voxels is None else "crop_voxels"
    crop = settings.crop_mm if settings.crop_voxels is None else settings.crop_voxels
    if len(settings.size) not in (2, 3) or len(crop) != len(settings.size):
        problems.append(
            f"prepare: size has {len(settings.size)} entries and {name} {len(crop)}; "
            "both need one per axis (R, A, S, or R, A for images of one slice)"
        )
    if any(edge is not None and edge <= 0 for edge in settings.crop_mm):
        problems.append("prepare.crop_mm: an edge has to be above 0 mm, or null")
    low, high = settings.percentiles
    if not 0 <= low < high <= 100:
        problems.append(f"prepare.percentiles: {low:g} and {high:g} do not rise within 0..100")
    if settings.crop_around is not None and not any(crop):
        problems.append(f"prepare.crop_around: {name} is null on every axis, so nothing is cropped")
    if settings.straighten and len(settings.size) == 2:
        problems.append("prepare.straighten: needs three axes; an image of one slice has two")
    if workers < 0:
        problems.append(f"workers: {workers} is below 0 (0: all cores)")
    if problems:
        raise UserError("\n".join(problems))


def _print_unused(settings: Prepare, sequences: list[str]) -> None:
    known = {name.lower() for name in sequences} | set(Prepare().intensity)
    if unused := [name for name in settings.intensity if name.lower() not in known]:
        print_line(f"warning: prepare.intensity: {', '.join(unused)} is none of data.sequences")


def _origin(source: Manifest, out: Path, jobs: dict[str, Job]) -> Origin:
    """Return where the prepared cases come from, unless others are there that come from elsewhere.

    Raises:
        UserError: They are another data set's.
    """
    contents = {c.id: jobs[c.id].content_sha256 if c.id in jobs else None for c in source}
    origin = Origin.of(out, source.folder, contents)
    origin.refuse_another(out, done_cases(out))
    return origin


def _inputs(
    settings: Prepare, sequences: list[str], source: Manifest, jobs: dict[str, Job]
) -> dict[str, Any]:
    """Return what decides the whole stage: settings, voxels, what a manifest line carries over."""
    cases = [
        [
            carried(case).hashed(leave_out=("images", "texts", "truth")),
            jobs[case.id].inputs_sha256 if case.id in jobs else None,
        ]
        for case in source
    ]
    return {
        "method": METHOD,
        "rules": _RULES,
        "prepare": settings.model_dump(mode="json"),
        "sequences": sequences,
        "cases_sha256": sha256_json(cases),
    }


def _is_current(record: StageRecord, quarantine: bool | None) -> bool:
    """Return whether the stage is complete, with all files and no case left out unasked."""
    previous = record.previous()
    if previous is None or not record.is_current() or manifest_file(record.folder) is None:
        return False
    if previous.get("facts", {}).get("quarantined") != 0 and quarantine is False:
        return False
    manifest = Manifest.read(record.folder)
    # Of many tiles in one shard the shard is asked for once.
    paths = (record.folder / path for case in manifest for path in case.images.values())
    files = {path if (row := row_of(path)) is None else row.shard for path in paths}
    return all(path.is_file() for path in files)


def _summary(settings: Prepare, manifest: Manifest) -> dict[str, int]:
    """Say what happened to the scans' geometry, and return it for the record."""
    extras = [case.extra for case in manifest]
    padded = sum(
        any(extra.get("padded_mm") or extra["padded_voxels"]) or "padded_share" in extra
        for extra in extras
    )
    oblique = sum(max(extra["oblique_degrees"].values()) > _OBLIQUE for extra in extras)
    if padded:
        print_line(
            f"prepare: {padded} of {len(extras)} cases reach beyond a scan and are padded with 0"
        )
    if oblique:
        done = (
            "resampled onto the scanner's axes"
            if settings.straighten
            else "their own axes are kept (prepare.straighten resamples them onto the scanner's)"
        )
        print_line(
            f"prepare: {oblique} of {len(extras)} cases are oblique by over {_OBLIQUE:g}°: {done}"
        )
    return {"padded": padded, "oblique": oblique}
