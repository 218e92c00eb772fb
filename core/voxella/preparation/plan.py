"""What there is to prepare: a job for each case, under a hash of all that decides its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.imaging.headers import check_image_file
from voxella.imaging.shards import row_of
from voxella.imaging.sources import hash_images
from voxella.machine import raise_if_machine
from voxella.preparation.cases import Job
from voxella.progress import Steps
from voxella.recipe.model import Prepare

__all__ = ["METHOD", "plan_jobs"]

# Raised when the same settings give other voxels than before.
METHOD = 1


def plan_jobs(
    settings: Prepare, sequences: list[str], optional: list[str], source: Manifest, out: Path
) -> tuple[dict[str, Job], dict[str, str]]:
    """Return a job for each case that can be tried, and what is wrong with the others, by id.

    Args:
        settings: The recipe's ``prepare`` block.
        sequences: The recipe's.
        optional: Those of them that a case may lack.
        source: The data set.
        out: Folder of the prepared data set; remembers hashes of files.
    """
    mask = settings.crop_around
    needed = list(dict.fromkeys(sequences if mask is None else [*sequences, mask]))
    problems: dict[str, str] = {}
    wanted: dict[str, dict[str, Path]] = {}
    for case in source:
        there = [name for name in needed if name in case.images]
        absent = [name for name in needed if name not in there and name not in optional]
        if absent:
            has = ", ".join(case.images) or "none"
            problems[case.id] = f"no image of sequence {', '.join(absent)} (there is: {has})"
        else:
            wanted[case.id] = {name: source.image_path(case, name) for name in there}
    files = [path for images in wanted.values() for path in images.values()]
    hashes, unreadable = _hashes(files, out)
    asked = settings.model_dump(mode="json")
    jobs: dict[str, Job] = {}
    for case_id, found in wanted.items():
        bad = [unreadable[path] for path in found.values() if path in unreadable]
        if bad:
            problems[case_id] = "; ".join(bad)
            continue
        # A list of pairs: the first sequence decides the grid.
        content = [[name, hashes[path]] for name, path in found.items()]
        inputs = sha256_json([METHOD, asked, content])
        images = {name: found[name] for name in sequences if name in found}
        around = None if mask is None else found[mask]
        held = sha256_json(content)
        jobs[case_id] = Job(case_id, images, around, settings, out, inputs, held)
    return jobs, problems


def _hashes(files: Sequence[Path], out: Path) -> tuple[dict[Path, str], dict[Path, str]]:
    """Return hashes of the images, and what is wrong with those that cannot be read.

    A row of a shard is named by where it lies and its checksum: to know it again nothing is read.
    """
    hashes: dict[Path, str] = {}
    problems: dict[Path, str] = {}
    for path in (path for path in files if row_of(path) is not None):
        try:
            check_image_file(path)
            hashes[path] = sha256_json([path.parent.name, path.name])
        except UserError as error:
            raise_if_machine(error)
            problems[path] = error.problem
    others = [path for path in files if path not in hashes and path not in problems]
    with Steps("read", len(others)) as steps:
        found, wrong = hash_images(others, out / "sources.json", steps.advance)
    return {**hashes, **found}, {**problems, **wrong}
