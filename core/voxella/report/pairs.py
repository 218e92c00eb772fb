"""Which volumes a page shows: synthetic cases with the real ones whose reports they stem from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxella.case import Case, Manifest
from voxella.case_fields import stored_window
from voxella.imaging.shards import is_there
from voxella.imaging.volume import read_image
from voxella.report.run_folder import RunFolder

__all__ = [
    *("Pair", "Shown", "choose_pairs", "evenly", "first_counterparts", "pairs_of", "read_shown"),
]


@dataclass(frozen=True)
class Shown:
    """One volume, ready to be drawn.

    Attributes:
        array: ``(R, A, S)`` float32 in [0, 1]; or ``(3, R, A, S)`` in colours.
        spacing_mm: Voxel edges along its axes.
    """

    array: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the voxels along R, A, S."""
        return self.array.shape[-3:]


@dataclass(frozen=True)
class Pair:
    """A synthetic case beside its real counterpart, in one sequence.

    Attributes:
        synthetic: The case.
        source: The real case; None for one made from a prompt.
        sequence: Which image.
        synthetic_path: Its file.
        real_path: The counterpart's; None without one.
        window: Values of the synthetic file that are 0 and 1.
        percentiles: Of the real file that are 0 and 1; None: it is in [0, 1] already.
    """

    synthetic: Case
    source: Case | None
    sequence: str
    synthetic_path: Path
    real_path: Path | None
    window: tuple[float, float]
    percentiles: tuple[float, float] | None

    def read(self) -> tuple[Shown | None, Shown]:
        """Return the real volume, if there is one, and the synthetic one.

        Raises:
            UserError: A file cannot be read.
        """
        synthetic = read_shown(self.synthetic_path, self.window)
        if self.real_path is None:
            return None, synthetic
        return read_shown(self.real_path, (0.0, 1.0), self.percentiles), synthetic


def read_shown(
    path: Path, window: tuple[float, float], percentiles: tuple[float, float] | None = None
) -> Shown:
    """Read a volume and map a window of its values to [0, 1].

    Args:
        path: The image.
        window: Values that become 0 and 1, times what is white in the file.
        percentiles: Of the image's own values, in place of the window; not of colours.

    Raises:
        UserError: The file cannot be read.
    """
    image = read_image(path)
    array = np.nan_to_num(image.array, posinf=0.0, neginf=0.0)
    if percentiles is None or image.is_colour:
        low, high = (edge * image.white for edge in window)
    else:
        low, high = np.percentile(array, percentiles)
    scaled = np.clip((array - low) / max(high - low, 1e-9), 0.0, 1.0).astype(np.float32)
    r, a, s = (float(edge) for edge in image.first.spacing_mm)
    return Shown(scaled if image.is_colour else scaled[0], (r, a, s))


def choose_pairs(run: RunFolder, most: int) -> list[Pair]:
    """Return at most ``most`` pairs, or all sequences of two cases where these are more.

    Cases are taken evenly from every class; the first synthetic counterpart of a case stands
    for all. Only what lies on the disk is chosen.
    """
    sequences = run.recipe.data.sequences
    chosen = evenly(list(first_counterparts(run).values()), max(2, most // len(sequences)))
    by_sequence = {
        name: {pair.synthetic.id: pair for pair in pairs_of(run, chosen, name)}
        for name in sequences
    }
    return [
        by_sequence[name][case.id]
        for case in chosen
        for name in sequences
        if case.id in by_sequence[name]
    ]


def first_counterparts(run: RunFolder) -> dict[str, Case]:
    """Return by the source's id the first synthetic case made for it, in the order of their ids."""
    first: dict[str, Case] = {}
    for case in sorted(run.synthetic or (), key=lambda case: case.id):
        first.setdefault(str(case.extra.get("source_case", case.id)), case)
    return first


def pairs_of(run: RunFolder, cases: Sequence[Case], sequence: str) -> list[Pair]:
    """Return synthetic cases of a run with their real counterparts, where those are on disk."""
    real = _counterparts(run)
    sources = {case.id: case for case in real or ()}
    pairs = [
        _pair(run, case, sources.get(str(case.extra.get("source_case"))), real, sequence)
        for case in cases
    ]
    return [pair for pair in pairs if pair is not None]


def _counterparts(run: RunFolder) -> Manifest | None:
    """Return the real cases on the grid that the synthetic ones have; None of prompts."""
    if run.recipe.sample.prompts is not None:
        return None
    return run.dataset if run.recipe.sample.space == "source" else run.prepared


def evenly(cases: list[Case], count: int) -> list[Case]:
    """Take cases in turn from each class, evenly spread over the ids of the class."""
    classes: dict[str, list[Case]] = {}
    for case in cases:
        classes.setdefault(case.label or "", []).append(case)
    taken: list[Case] = []
    for place, group in enumerate(classes.values()):
        share = min(len(group), -(-(count - len(taken)) // (len(classes) - place)))
        taken += [group[int(i)] for i in np.linspace(0, len(group) - 1, share).round()]
    return sorted(taken, key=lambda case: case.id)


def _pair(
    run: RunFolder, case: Case, source: Case | None, real: Manifest | None, sequence: str
) -> Pair | None:
    if run.synthetic is None or sequence not in case.images:
        return None
    path = run.synthetic.image_path(case, sequence)
    counterpart = None
    if real is not None and source is not None and sequence in source.images:
        counterpart = real.image_path(source, sequence)
    if not path.is_file():
        return None
    return Pair(
        case,
        source,
        sequence,
        path,
        counterpart if counterpart is not None and is_there(counterpart) else None,
        stored_window(case.extra, sequence),
        run.recipe.prepare.percentiles if run.recipe.sample.space == "source" else None,
    )
