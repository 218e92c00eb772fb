"""Tiles in shards that are as training wants them: looked at once, and read where they lie.

Of a tile of the right size in plain colours nothing has to be cut, normalised or resampled, so no
file is written for it: the prepared manifest names its row of the shard. Each tile's checksum is
held against its bytes, which are hashed for the search for copies, and its header is read; pixels
are decoded in training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voxella.case import Case
from voxella.errors import UserError
from voxella.hashing import sha256_bytes
from voxella.imaging.prepare import prepare_images
from voxella.imaging.raster import read_raster_header
from voxella.imaging.shards import read_row, row_of
from voxella.imaging.volume import COLOURS, PIXEL_AFFINE, Image, closest_ras
from voxella.machine import raise_if_machine
from voxella.preparation.cases import VOXELS, Job, carried
from voxella.progress import Steps
from voxella.recipe.model import Prepare
from voxella.workspace.pool import KilledError, processes_for, run_in_processes

__all__ = ["Tiles", "case_in_place", "look_at_tiles", "may_stay"]

# Tiles that travel to a process together: a slide has hundreds, and each takes a millisecond.
_AT_ONCE = 256
_CHUNKS_PER_PROCESS = 8
_WHITE = 255.0


@dataclass(frozen=True)
class Tiles:
    """What looking at tiles came to.

    Attributes:
        staying: By id of each case that is read where it lies, the hash of its bytes by sequence.
        facts: What a prepared manifest keeps of each of them.
        problems: By id, what is wrong with those that cannot be read.
    """

    staying: dict[str, dict[str, str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def may_stay(job: Job) -> bool:
    """Return whether a case need not be prepared, if its tiles have the size asked for.

    Its images are rows of shards, and the settings ask for whole images of two axes in colours.
    """
    settings = job.settings
    crop = settings.crop_mm if settings.crop_voxels is None else settings.crop_voxels
    sizes = [None] * len(crop) if settings.crop_voxels is None else settings.size
    whole = all(edge in {None, size} for edge, size in zip(crop, sizes, strict=True))
    flat = len(settings.size) == 2 and settings.crop_around is None
    shards = all(row_of(path) is not None for path in job.images.values())
    return flat and whole and shards and all(map(settings.is_colour, job.images))


def look_at_tiles(jobs: Sequence[Job], workers: int) -> Tiles:
    """Look at cases that :func:`may_stay`: which of them are as training wants them.

    Args:
        jobs: In any order, all of one recipe.
        workers: Processes; 0: as many as cores; 1: none but this.

    Raises:
        OSError: What the machine refused.
        UserError: A process was killed, as the system does for want of memory.
    """
    found = Tiles()
    if not jobs:
        return found
    chunks = [jobs[first : first + _AT_ONCE] for first in range(0, len(jobs), _AT_ONCE)]
    with Steps("look at tiles", len(jobs)) as steps:
        for chunk, looked in _results(chunks, workers):
            found.staying.update(looked.staying)
            found.problems.update(looked.problems)
            for _ in chunk:
                steps.advance()
    if found.staying:
        names = list(next(iter(found.staying.values())))
        found.facts.update(_facts(names, jobs[0].settings))
    return found


def case_in_place(case: Case, job: Job, tiles: Tiles) -> Case:
    """Return the prepared manifest's entry of a case that is read where it lies."""
    images = {name: os.path.abspath(path) for name, path in job.images.items()}
    own = {VOXELS: tiles.staying[case.id], "prepared_sha256": job.inputs_sha256}
    extra = {**carried(case).extra, **tiles.facts, **own}
    return case.model_copy(update={"images": images, "texts": {}, "truth": None, "extra": extra})


def _results(
    chunks: Sequence[Sequence[Job]], workers: int
) -> Iterator[tuple[Sequence[Job], Tiles]]:
    processes = processes_for(len(chunks), workers, _CHUNKS_PER_PROCESS)
    if processes == 1:
        yield from ((chunk, _look(chunk)) for chunk in chunks)
        return
    for chunk, result in run_in_processes(_look, chunks, processes):
        if isinstance(result, KilledError):
            raise result.mistake(f"tiles from {chunk[0].case} to {chunk[-1].case}")
        # Whichever crashed: one by one, as cases to prepare, it is found out.
        yield chunk, Tiles() if isinstance(result, BrokenProcessPool) else result


def _look(jobs: Sequence[Job]) -> Tiles:
    found = Tiles()
    for job in jobs:
        try:
            if all(_is_ready(path, job.settings) for path in job.images.values()):
                found.staying[job.case] = {name: _hash(path) for name, path in job.images.items()}
        except UserError as error:
            raise_if_machine(error)
            found.problems[job.case] = error.problem
    return found


def _is_ready(path: Path, settings: Prepare) -> bool:
    header = read_raster_header(path)
    return header.plain and header.size == tuple(settings.size)


def _hash(path: Path) -> str:
    row = row_of(path)
    assert row is not None, "only rows of shards stay"
    return sha256_bytes(read_row(path, row))


def _facts(names: Sequence[str], settings: Prepare) -> dict[str, Any]:
    """Return what preparing finds of any tile of that size: a black one stands for all."""
    black = closest_ras(np.zeros((*settings.size, 1), np.float32), PIXEL_AFFINE)
    tile = Image((black,) * COLOURS, white=_WHITE, in_mm=False)
    return prepare_images(dict.fromkeys(names, tile), settings).facts
