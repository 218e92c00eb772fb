"""One pass over all volumes, shared between processes; what it finds is kept by content hash.

A killed evaluation goes on where it was, a new data set pays for its own volumes only, and what
was computed of the real cases serves every run of a workspace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voxella.engine.runtime import all_gather_object
from voxella.errors import UserError
from voxella.evaluation.extractors import Extractor
from voxella.evaluation.sets import Subject
from voxella.evaluation.volumes import read_images, refuse_together
from voxella.files import atomic_path
from voxella.hashing import sha256_json
from voxella.machine import raise_if_machine
from voxella.metrics.vectors import VectorSet
from voxella.progress import Steps
from voxella.ranks import Ranks

__all__ = ["FeatureStore", "Wanted", "extract_all"]

_PART = "features"


@dataclass(frozen=True)
class Wanted:
    """What is to be taken from one volume.

    Attributes:
        subject: The volume.
        extractors: What looks at it.
        store: Where the rows are kept.
    """

    subject: Subject
    extractors: tuple[Extractor, ...]
    store: FeatureStore

    def lacking(self) -> tuple[Extractor, ...]:
        """Return those whose rows are not kept yet."""
        return tuple(e for e in self.extractors if not self.store.has(e, self.subject))


@dataclass(frozen=True)
class FeatureStore:
    """Rows of numbers by extractor and content, one file each.

    Attributes:
        folder: Holds a folder per extractor.
    """

    folder: Path

    def path(self, extractor: Extractor, subject: Subject) -> Path:
        """Return the file: another volume, or other weights, is another file."""
        key = sha256_json([extractor.fingerprint, subject.content])
        return self.folder / extractor.name / f"{key[:32]}.safetensors"

    def has(self, extractor: Extractor, subject: Subject) -> bool:
        """Return whether the rows are there."""
        return self.path(extractor, subject).is_file()

    def write(self, extractor: Extractor, subject: Subject, rows: Tensor) -> None:
        """Keep ``(rows, dim)``."""
        with atomic_path(self.path(extractor, subject)) as temporary:
            save_file({_PART: rows.contiguous()}, temporary)

    def read(self, extractor: Extractor, subject: Subject) -> Tensor:
        """Return ``(rows, dim)``.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path(extractor, subject)
        try:
            with safe_open(path, framework="pt") as file:
                rows: Tensor = file.get_tensor(_PART)
        except SafetensorError as error:
            raise_if_machine(error, path)
            raise UserError(
                f"{path} is damaged", remedy=f"rm {path}   and evaluate again"
            ) from error
        return rows

    def vectors(self, extractor: Extractor, subjects: Sequence[Subject], what: str) -> VectorSet:
        """Return the rows of many cases under each other, named by case.

        Raises:
            UserError: There is no case, or rows hold NaN.
        """
        found: np.ndarray[tuple[int, int], np.dtype[np.float32]] = np.empty((0, 0), np.float32)
        each = 0
        for number, subject in enumerate(subjects):
            rows = self.read(extractor, subject)
            if number == 0:
                # In place: two sets of slices are most of a machine's memory already.
                each = len(rows)
                found = np.empty((each * len(subjects), rows.shape[1]), np.float32)
            found[number * each : (number + 1) * each] = rows.numpy()
        ids = [subject.id for subject in subjects for _ in range(each)]
        patients = [subject.group for subject in subjects for _ in range(each)]
        return VectorSet.of(found, ids, patients=patients, what=what)


def extract_all(wanted: Sequence[Wanted], ranks: Ranks) -> None:
    """Take from each volume what is not kept yet, each process from its share; collective.

    Args:
        wanted: The same on every process.
        ranks: Which share is this process's.

    Raises:
        UserError: Volumes cannot be evaluated: all of them, on every process.
    """
    share = [wanted[index] for index in ranks.share(len(wanted))]
    todo = [(item, lacking) for item in share if (lacking := item.lacking())]
    problems: list[str] = []
    with Steps("evaluate: look at volumes", len(todo), quiet=not ranks.is_main) as steps:
        for item, lacking in todo:
            problems += _look(item, lacking)
            steps.advance()
    found = all_gather_object(problems)
    refuse_together([line for lines in found for line in lines], len(wanted))


def _look(item: Wanted, lacking: Sequence[Extractor]) -> list[str]:
    """Take from one volume what is not kept yet; return what is wrong with it, as one line."""
    try:
        images = read_images(item.subject)
    except UserError as problem:
        raise_if_machine(problem)
        return [problem.problem]
    problems = []
    for extractor in lacking:
        try:
            item.store.write(extractor, item.subject, extractor.features(images))
        except UserError as problem:
            raise_if_machine(problem)
            problems.append(f"{item.subject.id}: {extractor.name}: {problem.problem}")
    return problems[:1]
