"""What the phantom's detector sees in each volume; kept by content hash, as features are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from voxella.errors import UserError
from voxella.files import sha256_json, write_json_atomic
from voxella.importers.phantom.detector import DETECTOR, Sighting, look_for_lesion
from voxella.progress import Steps
from voxella.stages.evaluate_sets import Subject
from voxella.stages.evaluate_volumes import read_subject
from voxella.stages.pool import processes_for, run_in_processes

__all__ = ["Look", "sightings"]

# Starting a process costs about as much as looking at this many volumes.
_VOLUMES_PER_PROCESS = 12


@dataclass(frozen=True)
class Look:
    """One volume to look at, as it travels to another process.

    Attributes:
        subject: Whose it is.
        channel: Which of its images.
        folder: Where what is seen is kept.
    """

    subject: Subject
    channel: int
    folder: Path

    @property
    def path(self) -> Path:
        """Return the file of what is seen."""
        key = sha256_json([DETECTOR, self.subject.content, self.channel])
        return self.folder / f"{key}.json"

    def known(self) -> Sighting | None:
        """Return what was seen before, or None."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            return Sighting(**found)
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def take(self) -> Sighting:
        """Look at the volume and keep what is seen.

        Raises:
            UserError: As :func:`read_subject`.
        """
        image = read_subject(self.subject)[self.channel].numpy()
        r, a, s = self.subject.case.extra["spacing_mm"]
        seen = look_for_lesion(image, (float(r), float(a), float(s)))
        write_json_atomic(self.path, seen.as_json())
        return seen


def sightings(looks: Sequence[Look]) -> list[Sighting]:
    """Return what each volume shows, in their order.

    Raises:
        UserError: A volume cannot be read, or the process that looked at it died.
    """
    known = {look.path: look.known() for look in looks}
    missing = list({look.path: look for look in looks if known[look.path] is None}.values())
    with Steps("evaluate: lesions", len(missing)) as steps:
        for look, taken in _taken(missing):
            if isinstance(taken, BrokenProcessPool):
                raise UserError(
                    f"the process that looked at case {look.subject.id} died",
                    remedy="run it again: what was seen of the other volumes is kept",
                )
            known[look.path] = taken
            steps.advance()
    return [seen for look in looks if (seen := known[look.path]) is not None]


def _taken(looks: Sequence[Look]) -> Iterator[tuple[Look, Sighting | BrokenProcessPool]]:
    processes = processes_for(len(looks), 0, _VOLUMES_PER_PROCESS)
    if processes == 1:
        yield from ((look, look.take()) for look in looks)
    else:
        yield from run_in_processes(Look.take, looks, processes, initializer=_alone)


def _alone() -> None:
    """Let each process use one core: there is one for each."""
    torch.set_num_threads(1)
