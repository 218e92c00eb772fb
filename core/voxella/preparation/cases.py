"""One case of the stage `prepare`, and many of them in processes beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from typing_extensions import TypedDict

from voxella.case import Case
from voxella.check.quick import case_headers, refuse_errors
from voxella.check.settings import CaseImages, CheckSettings
from voxella.check.voxels import content_hash
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.imaging.prepare import prepare_images
from voxella.imaging.problem import ImageError
from voxella.imaging.volume import read_image, read_volume
from voxella.imaging.write import write_image
from voxella.machine import raise_if_machine
from voxella.progress import Steps
from voxella.recipe.model import Prepare
from voxella.workspace.pool import KilledError, processes_for, run_in_processes
from voxella.workspace.state import StateFile, sealed

__all__ = ["VOXELS", "Job", "carried", "done_cases", "prepared_case", "run_jobs"]

_RECORDS = "cases"
# By sequence, a hash of the source's voxels in RAS order: equal for one scan in any file.
VOXELS = "voxels_sha256"
# Starting a process costs about as much as preparing this many cases.
_CASES_PER_PROCESS = 4
_DIED = "its process died, in a library that reads images or for want of memory"


class _Done(TypedDict):
    inputs_sha256: str
    facts: dict[str, Any]


_DONE: StateFile[_Done] = StateFile(_Done, "rm {path}, then voxella prepare RECIPE")


@dataclass(frozen=True)
class Job:
    """One case to prepare, as it travels to another process.

    Attributes:
        case: Its id.
        images: Source file by sequence, in the recipe's order.
        mask: What the crop is centred on; None where the settings name no mask.
        settings: The recipe's ``prepare`` block.
        out: Folder of the prepared data set.
        inputs_sha256: Of everything that decides the case's voxels.
        content_sha256: Of the source files alone.
    """

    case: str
    images: dict[str, Path]
    mask: Path | None
    settings: Prepare
    out: Path
    inputs_sha256: str
    content_sha256: str

    @property
    def prepared(self) -> dict[str, str]:
        """Return the prepared file by sequence, relative to ``out``."""
        return {name: f"images/{self.case}_{name}.nii.gz" for name in self.images}

    def facts(self) -> dict[str, Any] | None:
        """Return what preparing the case found, or None when it is not done on these inputs."""
        done = _DONE.read_or_remake(self._record)
        there = all((self.out / path).is_file() for path in self.prepared.values())
        if done is None or done["inputs_sha256"] != self.inputs_sha256 or not there:
            return None
        facts: dict[str, Any] = done["facts"]
        # Without it the case was judged by fewer rules.
        return facts if VOXELS in facts else None

    def run(self) -> None:
        """Prepare the case; its record is written last, so one that is there is complete.

        Raises:
            ImageError: As :func:`read_image` and :func:`prepare_images`; whatever the check
                calls an error.
        """
        self._record.unlink(missing_ok=True)
        # What the check calls an error of the headers; of the voxels both ask the same functions.
        own = self._looked_at
        refuse_errors(own, case_headers(own, self._asked).findings)
        volumes = {sequence: read_image(path) for sequence, path in self.images.items()}
        mask = None if self.mask is None else read_volume(self.mask)
        prepared = prepare_images(volumes, self.settings, mask)
        for sequence, path in self.prepared.items():
            image = prepared.images[sequence]
            channels = image if self.settings.is_colour(sequence) else image[None]
            write_image(self.out / path, channels, prepared.affine)
        voxels = {n: content_hash(v) for n, v in volumes.items() if n not in own.masks}
        facts = {**prepared.facts, VOXELS: voxels}
        record = {"inputs_sha256": self.inputs_sha256, "facts": facts}
        write_json_atomic(self._record, sealed(record))

    @property
    def _asked(self) -> CheckSettings:
        return CheckSettings.to_prepare(self.images, self.settings)

    @property
    def _looked_at(self) -> CaseImages:
        around = self.settings.crop_around
        mask = {} if self.mask is None or around is None else {around: self.mask}
        masks = frozenset([] if around is None else [around])
        return CaseImages(self.case, {**self.images, **mask}, masks, next(iter(self.images), ""))

    @property
    def _record(self) -> Path:
        return self.out / _RECORDS / f"{self.case}.json"


def done_cases(out: Path) -> set[str]:
    """Return the ids of the cases that were ever prepared in a folder, on whatever inputs."""
    return {path.stem for path in (Path(out) / _RECORDS).glob("*.json")}


def run_jobs(jobs: Sequence[Job], workers: int) -> dict[str, str]:
    """Run the jobs and return, by case id, what is wrong with those that cannot be prepared.

    Args:
        jobs: In any order; the result does not depend on it.
        workers: Processes; 0: as many as cores, where there are cases enough; 1: none but this.

    A case that ends its process by a library's crash is one that cannot be prepared; the others go
    on. With one worker there is no process but this, which then dies.

    Raises:
        OSError: What the machine refused (disk, memory, open files): no case is at fault.
        UserError: A process was killed, as the system does for want of memory.
    """
    if not jobs:
        return {}
    processes = processes_for(len(jobs), workers, _CASES_PER_PROCESS)
    problems: dict[str, str] = {}
    with Steps("prepare", len(jobs)) as steps:
        results = map(_attempt, jobs) if processes == 1 else _parallel(jobs, processes)
        for case, problem in results:
            if problem is not None:
                problems[case] = problem
            steps.advance()
    return problems


def _attempt(job: Job) -> tuple[str, str | None]:
    """Prepare one case; return its id and what is wrong with it."""
    try:
        job.run()
    except UserError as error:
        raise_if_machine(error)
        return job.case, _with_code(error)
    except Exception as error:
        # A full disk is no bad case: judged as one, --quarantine would leave the patient out.
        raise_if_machine(error)
        # Whatever else it is, one strange file must not end the others' work.
        return job.case, f"{type(error).__name__}: {error}"
    return job.case, None


def _with_code(error: UserError) -> str:
    """Return what was found, with the code that docs/reference/check.md explains it under."""
    if not isinstance(error, ImageError) or f"({error.code})" in error.problem:
        return error.problem
    return f"{error.problem} ({error.code})"


def _parallel(jobs: Sequence[Job], processes: int) -> Iterator[tuple[str, str | None]]:
    for job, result in run_in_processes(_attempt, jobs, processes, initializer=_one_thread):
        if isinstance(result, KilledError):
            raise result.mistake(f"case {job.case}")
        yield (job.case, _DIED) if isinstance(result, BrokenProcessPool) else result


def _one_thread() -> None:
    """Keep SimpleITK to one thread: the processes already fill the cores."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def carried(case: Case) -> Case:
    """Return a case without what no longer holds of its voxels: they are in [0, 1] now."""
    gone = ("int16_scale", "intensity")
    extra = {name: value for name, value in case.extra.items() if name not in gone}
    return case.model_copy(update={"extra": extra})


def prepared_case(case: Case, job: Job) -> Case:
    """Return the prepared manifest's entry of a case whose job is done."""
    facts = job.facts() or {}
    extra = {**carried(case).extra, **facts, "prepared_sha256": job.inputs_sha256}
    return case.model_copy(
        update={"images": job.prepared, "texts": {}, "truth": None, "extra": extra}
    )
