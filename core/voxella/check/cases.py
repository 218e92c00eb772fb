"""All cases looked at, in processes beside each other; what was found is kept until files change.

``cases/<id>.npz`` holds a case's findings, hashes, thumbnails and pictures, under a key made of its
files' sizes and times and of the settings. A check that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk

from voxella.case import Manifest
from voxella.check.catalogue import found
from voxella.check.examine import CaseFacts, examine
from voxella.check.finding import SEVERITIES, Finding
from voxella.check.geometry import Placement
from voxella.check.settings import CaseImages, CheckSettings
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.hashing import sha256_json, stat_marks
from voxella.imaging.headers import file_parts
from voxella.machine import raise_if_machine
from voxella.progress import Steps
from voxella.workspace.pool import KilledError, processes_for, run_in_processes

__all__ = ["CheckJob", "CheckReport", "look_at_cases"]

# Raised when the same files give other findings than before.
_METHOD = 2
# Starting a process costs about as much as looking at this many cases.
_CASES_PER_PROCESS = 4
# Thumbnails have deviation 1; a step of 1/32 is far below what tells two images apart.
_STEPS = 32.0
_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class CheckJob:
    """One case to look at, as it travels to another process.

    Attributes:
        images: Its files.
        settings: What the data set is held against.
        folder: Where ``<id>.npz`` is kept.
    """

    images: CaseImages
    settings: CheckSettings
    folder: Path

    @property
    def case(self) -> str:
        """Return the case's id."""
        return self.images.case

    @property
    def path(self) -> Path:
        """Return the file that keeps what was found."""
        return self.folder / f"{self.case}.npz"

    @cached_property
    def key(self) -> str:
        """Return a hash of what decides the findings."""
        marks = {
            name: [stat_marks(part) for part in _parts(path)]
            for name, path in self.images.files.items()
        }
        own = [self.images.reference, sorted(self.images.masks), list(marks.items())]
        return sha256_json([_METHOD, self.settings.as_json(), own])

    def is_done(self) -> bool:
        """Return whether the case was looked at, with the same files and settings."""
        return self._kept(lambda record, kept: True) is True

    def facts(self) -> CaseFacts | None:
        """Return what was found on the same files, or None."""
        return self._kept(_facts)

    def run(self) -> None:
        """Look at the case and keep what was found."""
        facts = examine(self.images, self.settings)
        record = {
            "key": self.key,
            "findings": [finding.as_json() for finding in facts.findings],
            "places": {name: place.as_json() for name, place in facts.places.items()},
            "planes": facts.planes,
            "contents": facts.contents,
            "thumbnails": list(facts.thumbnails),
            "pictures": list(facts.pictures),
        }
        arrays = {"record": np.frombuffer(json.dumps(record).encode(), np.uint8)}
        for number, small in enumerate(facts.thumbnails.values()):
            # Through integers and back, also for the first use: a second run finds the same.
            arrays[f"thumbnail{number}"] = np.clip(np.rint(small * _STEPS), -127, 127).astype("i1")
        for number, jpeg in enumerate(facts.pictures.values()):
            arrays[f"picture{number}"] = np.frombuffer(jpeg, np.uint8)
        with atomic_path(self.path) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]  # a stub's flaw

    def _kept(self, use: Callable[[dict[str, Any], Any], _Kept]) -> _Kept | None:
        try:
            with np.load(self.path, allow_pickle=False) as kept:
                record = json.loads(kept["record"].tobytes())
                return use(record, kept) if record["key"] == self.key else None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise_if_machine(error)
            return None


def look_at_cases(
    jobs: Sequence[CheckJob], workers: int, *, quiet: bool = False
) -> Iterator[tuple[CheckJob, CaseFacts]]:
    """Look at every case and yield what was found, in the jobs' order.

    Args:
        jobs: In any order; the findings do not depend on it.
        workers: Processes; 0: as many as cores, where there are cases enough; 1: none but this.
        quiet: Show no progress.
    """
    pending = [job for job in jobs if not job.is_done()]
    processes = processes_for(len(pending), workers, _CASES_PER_PROCESS)
    crashed: dict[str, Finding] = {}
    with Steps("check", len(jobs), first=len(jobs) - len(pending), quiet=quiet) as steps:
        if processes == 1:
            for job in pending:
                job.run()
                steps.advance()
        else:
            done = run_in_processes(CheckJob.run, pending, processes, initializer=_one_thread)
            for job, result in done:
                if isinstance(result, KilledError):
                    raise result.mistake(f"case {job.case}")
                if isinstance(result, BrokenProcessPool):
                    message = "reading its images ended the process (a crash)"
                    crashed[job.case] = found("image.unreadable", message, case=job.case)
                steps.advance()
    for job in jobs:
        facts = job.facts()
        if facts is None:
            facts = CaseFacts([crashed[job.case]] if job.case in crashed else [])
        yield job, facts


def _one_thread() -> None:
    """Keep SimpleITK to one thread: the processes already fill the cores."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _parts(path: Path) -> list[Path]:
    try:
        return file_parts(path)
    except UserError:
        return [path]


def _facts(record: dict[str, Any], kept: Any) -> CaseFacts:  # noqa: ANN401 - numpy's NpzFile
    thumbnails = {
        name: kept[f"thumbnail{number}"].astype(np.float32) / np.float32(_STEPS)
        for number, name in enumerate(record["thumbnails"])
    }
    pictures = {
        name: kept[f"picture{number}"].tobytes() for number, name in enumerate(record["pictures"])
    }
    return CaseFacts(
        findings=[Finding(**finding) for finding in record["findings"]],
        places={name: Placement.from_json(place) for name, place in record["places"].items()},
        planes=record["planes"],
        contents=record["contents"],
        thumbnails=thumbnails,
        pictures=pictures,
    )


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        manifest: The cases that could be read.
        findings: Worst first.
        not_checked: What was left out, and why; a line each.
        folder: Where the stage keeps things.
        page: The page's file.
        jobs: By case id; each gives pictures and places of its case.
    """

    manifest: Manifest
    findings: list[Finding]
    not_checked: list[str]
    folder: Path
    page: Path
    jobs: dict[str, CheckJob] = field(repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """Return the number of findings by severity."""
        seen = Counter(finding.severity for finding in self.findings)
        return {severity: seen[severity] for severity in SEVERITIES}

    def as_json(self) -> dict[str, Any]:
        """Return everything but pictures as JSON-ready data."""
        return {
            "dataset": str(self.manifest.folder),
            "cases": len(self.manifest),
            "counts": self.counts,
            "not_checked": self.not_checked,
            "page": str(self.page),
            "findings": [finding.as_json() for finding in self.findings],
        }
