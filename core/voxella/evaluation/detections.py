"""What a probe finds in each volume; kept by content hash, as features are.

What a probe finds in real volumes that have been through the autoencoder alone.

A diffusion model on latents shows what their decoder can draw. What the probe cannot tell after
the autoencoder, it can tell of no such model, however well that reads: without this number beside
it, low adherence would be blamed on the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import TypedDict

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.measure import reconstruct
from voxella.autoencoder.tiling.choice import tiled
from voxella.detection import Detection, Facts
from voxella.errors import UserError
from voxella.evaluation.sets import Subject
from voxella.evaluation.volumes import read_subject
from voxella.files import write_json_atomic
from voxella.hashing import sha256_json
from voxella.plugins.contracts import Probe
from voxella.progress import Steps
from voxella.workspace.pool import processes_for, run_in_processes
from voxella.workspace.state import StateFile, sealed

__all__ = [
    "DetectionJob",
    "UnknownEdgesError",
    "detections",
    "reconstructed_detections",
    "take_all",
    "unseen",
]

# Starting a process costs about as much as looking at this many volumes.
_VOLUMES_PER_PROCESS = 12

_WITH_SLICES = 4  # axes of an image with its channels

# Volumes reconstructed before they are looked at: what lies in memory at a time.
_AT_A_TIME = 24


class _Found(TypedDict):
    present: bool
    side: str | None
    zone: str | None
    size_mm: float | None
    levels: dict[str, str]


class _Seen(TypedDict):
    found: _Found
    blind: bool
    details: dict[str, float]


_SEEN: StateFile[dict[str, Any]] = StateFile(_Seen, "rm {path}, then voxella evaluate RECIPE")


class UnknownEdgesError(UserError):
    """Nothing says how large the pixels of an image are."""


@dataclass(frozen=True)
class DetectionJob:
    """One volume to look at, as it travels to another process.

    Attributes:
        probe: What looks.
        subject: Whose it is.
        channel: Which of its images, or the first of its colours.
        folder: Where what is seen is kept.
        through: Fingerprint of the autoencoder that reconstructed it; None: the volume itself.
        reconstruction: That image; None where it is not at hand, or the volume itself is looked at.
        count: Channels: of one the probe sees the plane or volume alone, of three all.
    """

    probe: Probe
    subject: Subject
    channel: int
    folder: Path
    through: str | None = None
    reconstruction: NDArray[np.float32] | None = None
    count: int = 1

    @property
    def path(self) -> Path:
        """Return the file of what is seen."""
        way = [] if self.through is None else [self.through]
        seen = [self.channel] if self.count == 1 else [self.channel, self.count, *self.edges_mm]
        key = sha256_json([self.probe.fingerprint, self.subject.content, *seen, *way])
        return self.folder / f"{key}.json"

    @property
    def edges_mm(self) -> tuple[float, ...]:
        """Return the edges of a voxel, in mm.

        Pictures do not say them: there the data set says how many micrometres an original pixel
        is (``mpp``), and preparing how many of these a prepared one is.

        Raises:
            UnknownEdgesError: Neither is known.
        """
        own, source = self.subject.case.extra, self.subject.source
        if "spacing_mm" in own:
            return tuple(float(edge) for edge in own["spacing_mm"])
        told = own if source is None else {**source.extra, **own}
        if "mpp" not in told or "spacing_pixels" not in told:
            raise UnknownEdgesError(
                f"case {self.subject.id}: nothing says how large its pixels are",
                expected="images with a spacing, or mpp (micrometres per pixel) in the extra of "
                "the data set's cases",
            )
        return tuple(float(edge) * float(told["mpp"]) / 1000 for edge in told["spacing_pixels"])

    def see(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the probe sees of an image ``(C, R, A, S)``, or ``(C, R, A)``."""
        if image.ndim == _WITH_SLICES and image.shape[-1] == 1 and 2 in self.probe.spatial_dims:
            image = image[..., 0]
        seen = image[self.channel : self.channel + self.count]
        return seen.reshape(seen.shape[1:]) if self.count == 1 else seen

    def known(self) -> Detection | None:
        """Return what was seen before, or None."""
        found = _SEEN.read_or_remake(self.path)
        if found is None:
            return None
        return Detection(Facts(**found["found"]), found["blind"], found["details"])

    def take(self) -> Detection:
        """Look at the volume and keep what is seen.

        Raises:
            UserError: As :func:`read_subject`.
        """
        image = self.reconstruction
        if image is None:
            assert self.through is None, "only the autoencoder's user can reconstruct a volume"
            image = self.see(read_subject(self.subject).numpy())
        seen = self.probe.look(image, self.edges_mm)
        write_json_atomic(self.path, sealed(seen.as_json()))
        return seen


def detections(jobs: Sequence[DetectionJob]) -> list[Detection]:
    """Return what each volume shows, in their order.

    Raises:
        UserError: A volume cannot be read, or the process that looked at it died.
    """
    missing = unseen(jobs)
    with Steps("evaluate: what a probe sees", len(missing)) as steps:
        for _ in take_all(missing):
            steps.advance()
    return [seen for job in jobs if (seen := job.known()) is not None]


def unseen(jobs: Sequence[DetectionJob]) -> list[DetectionJob]:
    """Return the jobs that are still to be done, each once."""
    return list({job.path: job for job in jobs if job.known() is None}.values())


def take_all(jobs: Sequence[DetectionJob]) -> Iterator[DetectionJob]:
    """Look at every volume, in as many processes as are worth it; yield each job when it is kept.

    Raises:
        UserError: A volume cannot be read, or the process that looked at it died.
    """
    for job, taken in _taken(jobs):
        if isinstance(taken, BrokenProcessPool):
            raise UserError(
                f"the process that looked at case {job.subject.id} died",
                remedy="run it again: what was seen of the other volumes is kept",
            )
        yield job


def _taken(
    jobs: Sequence[DetectionJob],
) -> Iterator[tuple[DetectionJob, Detection | BrokenProcessPool]]:
    processes = processes_for(len(jobs), 0, _VOLUMES_PER_PROCESS)
    if processes == 1:
        yield from ((job, job.take()) for job in jobs)
    else:
        yield from run_in_processes(DetectionJob.take, jobs, processes, initializer=_alone)


def _alone() -> None:
    """Let each process use one core: there is one for each."""
    torch.set_num_threads(1)


def reconstructed_detections(
    probe: Probe,
    plan: AutoencoderPlan,
    trained: Path,
    subjects: Sequence[Subject],
    channels: tuple[int, int],
    kept: Path,
    device: torch.device,
) -> list[Detection]:
    """Encode and decode volumes through the latent's mean, and say what is seen of each.

    Args:
        probe: What looks.
        plan: What the autoencoder is built from.
        trained: The folder of an autoencoder that the recipe trains.
        subjects: Real cases that the probe knows.
        channels: The first that is looked at, and how many.
        kept: Where what is seen is kept.
        device: Where the autoencoder computes.

    Returns:
        In the order of ``subjects``.

    Raises:
        UserError: The autoencoder has no weights, or a volume cannot be read.
    """
    coder = load_autoencoder(plan, trained, device)
    channel, count = channels
    through = coder.fingerprint
    jobs = [DetectionJob(probe, s, channel, kept, through, count=count) for s in subjects]
    missing = unseen(jobs)
    if missing:
        model = tiled(coder, plan, device, alone=True, quiet=True)
        with Steps("evaluate: what a probe sees after the autoencoder", len(missing)) as steps:
            for start in range(0, len(missing), _AT_A_TIME):
                ready = []
                for job in missing[start : start + _AT_A_TIME]:
                    image = read_subject(job.subject)
                    flat = image[..., 0] if len(plan.latent.size) == _WITH_SLICES - 2 else image
                    reconstruction = reconstruct(model, flat[None], device)
                    ready.append(replace(job, reconstruction=job.see(reconstruction[0].numpy())))
                for _ in take_all(ready):
                    steps.advance()
    return [seen for job in jobs if (seen := job.known()) is not None]
