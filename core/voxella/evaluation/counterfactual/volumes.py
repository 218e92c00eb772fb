"""Volumes before and after one fact is changed: a model's at the same noise, and the real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan
from voxella.case import Case
from voxella.detection import Counterfactual, Version
from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.evaluation.sets import Subject
from voxella.imaging.prepare import prepare_images
from voxella.imaging.volume import Volume
from voxella.ldm.generate import GenerationSettings
from voxella.ldm.request import Request, request_for
from voxella.progress import Steps
from voxella.ranks import Ranks
from voxella.recipe.condition import Condition
from voxella.recipe.inputs import Prepare
from voxella.recipe.model import Text
from voxella.recipe.sampling import Sample
from voxella.sampling.networks import Networks
from voxella.sampling.prompts import TextPrompts
from voxella.workspace.folders import Folders
from voxella.workspace.pool import processes_for, run_in_processes

__all__ = ["Asked", "ChangeSettings", "made_changes", "real_changes"]

Row = NDArray[np.float32]

# Starting a process costs about as much as drawing so many pairs.
_PAIRS_PER_PROCESS = 24


@dataclass(frozen=True)
class Asked:
    """One change of one real case.

    Attributes:
        subject: The case.
        change: Its two versions.
    """

    subject: Subject
    change: Counterfactual

    @property
    def versions(self) -> tuple[Version, Version]:
        """Return both, the first before the change."""
        return self.change.before, self.change.after

    def case(self, version: Version) -> Case:
        """Return the case as it would be."""
        told = {"label": version.label, "conditions": dict(version.conditions)}
        return self.subject.case.model_copy(update=told)


@dataclass(frozen=True)
class ChangeSettings:
    """What a recipe says of making them.

    Attributes:
        classes: Label names, in order.
        conditions: How a case's values become tensors, by name.
        text: The recipe's ``text`` block; None: the model reads no reports.
        autoencoder: What it is built from.
        sample: Volumes at a time, and the weaker model that guides.
        generation: How latents are generated.
        channel: Of the images that is looked at.
    """

    classes: list[str]
    conditions: Mapping[str, Condition]
    text: Text | None
    autoencoder: AutoencoderPlan
    sample: Sample
    generation: GenerationSettings
    channel: int


def made_changes(
    settings: ChangeSettings, folders: Folders, asked: Sequence[Asked], ranks: Ranks, kept: Path
) -> list[Row]:
    """Return the model's volume after each change less the one before, flat; collective.

    Both are made from the noise of the case's first counterpart.

    Args:
        settings: What the recipe says.
        folders: Of the run, whose model it is.
        asked: The changes.
        ranks: Who share the work.
        kept: Folder of the reports' features.

    Raises:
        UserError: The model, its autoencoder or its text encoder are not to be had.
    """
    texts = {
        f"{number}-{end}": version.report
        for number, one in enumerate(asked)
        for end, version in enumerate(one.versions)
    }
    prompts = (
        None
        if settings.text is None
        else TextPrompts(settings.text, texts, folders.text, kept, ranks)
    )
    networks = Networks.load(
        settings.autoencoder,
        settings.sample,
        folders.model,
        folders.autoencoder,
        ranks.device,
        text=None if prompts is None else prompts.fingerprint,
        quiet=True,
    )
    mine = list(ranks.share(len(asked)))
    requests = []
    for number in mine:
        one = asked[number]
        for end, version in enumerate(one.versions):
            key = Case(id=f"{number}-{end}", group="", images={})
            features = None if prompts is None else prompts.features(key)
            requests.append(_request(settings, one, version, features))
    images = _images(settings, networks, requests, quiet=not ranks.is_main)
    found = {n: images[2 * k + 1] - images[2 * k] for k, n in enumerate(mine)}
    gathered: dict[int, Row] = {}
    for part in all_gather_object(found):
        gathered |= part
    return [gathered[number] for number in range(len(asked))]


def _request(
    settings: ChangeSettings, one: Asked, version: Version, features: Tensor | None
) -> Request:
    noise = f"{one.subject.id}-s000"
    classes, conditions = settings.classes, settings.conditions
    return request_for(classes, conditions, one.case(version), features, noise)


def _images(
    settings: ChangeSettings, networks: Networks, requests: Sequence[Request], *, quiet: bool
) -> list[Row]:
    size = settings.sample.batch_size
    found: list[Row] = []
    with Steps("evaluate: volumes with one fact changed", len(requests), quiet=quiet) as steps:
        for start in range(0, len(requests), size):
            part = requests[start : start + size]
            made = dict(networks.images(settings.generation, part))
            for place in range(len(part)):
                found.append(made[place].array[settings.channel].ravel())
                steps.advance()
    return found


@dataclass(frozen=True)
class _Draw:
    """One pair of real images to be drawn, as it travels to another process."""

    number: int
    change: Counterfactual
    draw: int
    settings: Prepare
    sequence: str

    def difference(self) -> Row:
        before, after = (
            prepare_images({self.sequence: Volume(*scanned)}, self.settings).images[self.sequence]
            for scanned in self.change.images(self.draw)
        )
        return np.asarray(after - before, dtype=np.float32).ravel()


def real_changes(asked: Sequence[Asked], draw: int, settings: Prepare, sequence: str) -> list[Row]:
    """Return the real image after each change less the one before, on the prepared grid, flat.

    Args:
        asked: The changes.
        draw: Of all that no report tells.
        settings: The recipe's ``prepare`` block.
        sequence: Which image it is.

    Raises:
        UserError: A process that drew them died, or an image cannot be prepared.
    """
    jobs = [_Draw(n, one.change, draw, settings, sequence) for n, one in enumerate(asked)]
    processes = processes_for(len(jobs), 0, _PAIRS_PER_PROCESS)
    if processes == 1:
        return [job.difference() for job in jobs]
    found: dict[int, Row] = {}
    results: Any = run_in_processes(_Draw.difference, jobs, processes, initializer=_alone)
    for job, result in results:
        if isinstance(result, BrokenProcessPool):
            raise UserError("a process that drew real volumes died", remedy="run it again")
        found[job.number] = result
    return [found[number] for number in range(len(jobs))]


def _alone() -> None:
    """Let each process use one core: there is one for each."""
    torch.set_num_threads(1)
