"""Who is compared with whom: synthetic cases, the real cases of one split, training, unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.case_fields import stored_window
from voxella.check.synthetic_sets import refuse_unfit
from voxella.data.pseudonyms import read_synthetic
from voxella.engine.hashes import shared_hashes
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings, compared_split
from voxella.hashing import sha256_json
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Probe
from voxella.ranks import Ranks

__all__ = ["Sets", "Subject", "probe_for", "read_sets"]

# What a header's float32 and a writer's rounding may change of a voxel's edge.
_EDGE_TOLERANCE = 0.01
Range = tuple[float, float]
_id = attrgetter("id")


@dataclass(frozen=True)
class Subject:
    """One volume that takes part.

    Attributes:
        case: As its manifest has it.
        group: Whose it is (patient, slide); of a synthetic case that whose report it was made from.
        source: The real case whose report it was made from, where that is known.
        paths: One image per sequence of the recipe; None for one that the case may lack, and does.
        scale: What stored intensities are divided by.
        shape: Voxels that its images must have.
        edges_mm: Smallest and largest voxel edge by axis that its images may have; None: any.
        content: Hash of the voxels and of all that decides how they are read.
        windows: By sequence, the stored numbers that are 0 and 1; None: 0 and ``scale`` in all.
        whole: Voxels of its files, of which the middle ``shape`` takes part; None: all do.
    """

    case: Case
    group: str
    source: Case | None
    paths: tuple[Path | None, ...]
    scale: float
    shape: tuple[int, ...]
    edges_mm: tuple[Range, ...] | None
    content: str
    windows: tuple[Range, ...] | None = None
    whole: tuple[int, ...] | None = None

    @property
    def id(self) -> str:
        """Return the case's id."""
        return self.case.id


@dataclass(frozen=True)
class Sets:
    """The sets of one evaluation, each sorted by id.

    Attributes:
        split: Of the real cases compared with, and of the synthetic cases' sources.
        synthetic: Those of the data set that are compared: made from reports of ``split``.
        generated: The whole data set, which is searched for copies.
        real: Real cases of ``split``.
        training: What the model has seen.
        unseen: Real cases it has not seen: of ``unseen_split``.
        unseen_split: ``test``, else ``val``; None where neither has a case.
        paired: Synthetic and real cases have the same patients.
        hashes: Of the synthetic images' files, as they were when the sets were read.
    """

    split: str
    synthetic: list[Subject]
    generated: list[Subject]
    real: list[Subject]
    training: list[Subject]
    unseen: list[Subject]
    unseen_split: str | None
    paired: bool
    hashes: Mapping[Path, str] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Return the cases of the smaller of the two sets compared."""
        return min(len(self.synthetic), len(self.real))

    @property
    def floor_size(self) -> int | None:
        """Return the patients of either half of a baseline; None: half of all, as N asks more."""
        real, synthetic = ({s.group for s in side} for side in (self.real, self.synthetic))
        size = min(len(real), len(synthetic))
        return size if 2 * size <= len(real) else None


def read_sets(
    settings: SetSettings, prepared: Manifest, samples: Path, ranks: Ranks | None = None
) -> Sets:
    """Return the sets to compare; collective unless ``ranks`` is None.

    Args:
        settings: What the recipe says of them.
        prepared: The prepared real cases.
        samples: A data set folder of synthetic cases; not necessarily this project's.
        ranks: Who share the reading of files; None: this process reads all of them.

    Raises:
        UserError: The synthetic cases stem from several splits and nothing says which is meant,
            none of them from the one asked for, they lack a sequence or an image, or are none; the
            split has no real case.
    """
    counterparts = read_synthetic(samples, prepared)
    refuse_unfit(settings.sequences, counterparts)
    known = {case.id: case for case in prepared}
    split_of: dict[str, str] = {c.id: (_source(c, known) or c).split for c in counterparts}
    split = compared_split(settings.real_split, settings.made_from, split_of)
    files = {case.id: _images(settings, counterparts, case) for case in counterparts}
    foreign = [c for c in prepared if not c.extra.get("prepared_sha256")]
    unhashed = [path for case in foreign for path in _there(_images(settings, prepared, case))]
    hashed = [path for paths in files.values() for path in _there(paths)]
    hashes = shared_hashes([*hashed, *unhashed], ranks)
    make = _maker(settings, prepared, hashes)
    by_split = {
        name: [make(case) for case in sorted(prepared.split(name), key=_id)]
        for name in ("train", "val", "test")
    }
    real = by_split[split]
    if not real:
        raise UserError(
            f"there is no real case in the split {split} to compare with",
            remedy="--set evaluate.real_split=train (or val, test)",
        )
    unseen_split = next((name for name in ("test", "val") if by_split[name]), None)
    usual = _range([subject.case for subject in real])
    generated = [
        _counterpart(settings, case, files[case.id], hashes, known, usual)
        for case in sorted(counterparts, key=_id)
    ]
    synthetic = [subject for subject in generated if split_of[subject.id] == split]
    return Sets(
        split,
        synthetic,
        generated,
        real,
        by_split["train"],
        by_split[unseen_split] if unseen_split else [],
        unseen_split,
        {subject.group for subject in synthetic} == {subject.group for subject in real},
        {path: hashes[path] for path in hashed},
    )


def _source(case: Case, known: dict[str, Case]) -> Case | None:
    return known.get(str(case.extra.get("source_case")))


def _images(settings: SetSettings, manifest: Manifest, case: Case) -> tuple[Path | None, ...]:
    there = {name: manifest.image_path(case, name) for name in case.images}
    return tuple(there.get(name) for name in settings.sequences)


def _there(paths: Iterable[Path | None]) -> list[Path]:
    return [path for path in paths if path is not None]


def _maker(
    settings: SetSettings, prepared: Manifest, hashes: Mapping[Path, str]
) -> Callable[[Case], Subject]:
    def make(case: Case) -> Subject:
        paths = _images(settings, prepared, case)
        # Preparing has hashed all that decides the voxels: no need to read every file again.
        decides = case.extra.get("prepared_sha256") or [hashes[path] for path in _there(paths)]
        middle = [] if settings.whole is None else [settings.shape]
        content = sha256_json(["prepared", decides, list(settings.sequences), *middle])
        shape, whole = settings.shape, settings.whole
        return Subject(case, case.group, case, paths, 1.0, shape, None, content, whole=whole)

    return make


def _counterpart(
    settings: SetSettings,
    case: Case,
    paths: tuple[Path | None, ...],
    hashes: Mapping[Path, str],
    known: dict[str, Case],
    usual: tuple[Range, ...] | None,
) -> Subject:
    source = _source(case, known)
    scale = float(case.extra.get("int16_scale") or 1.0)
    edges = usual if source is None else _range([source])
    windows = tuple(stored_window(case.extra, name) for name in settings.sequences)
    told = [windows] if case.extra.get("intensity") else []
    content = sha256_json(
        ["synthetic", [hashes[path] for path in _there(paths)], scale, settings.shape, edges, *told]
    )
    group = case.group if source is None else source.group
    return Subject(case, group, source, paths, scale, settings.shape, edges, content, windows)


def _range(cases: Sequence[Case]) -> tuple[Range, ...] | None:
    """Return the voxel edges that these cases have, smallest and largest, with a tolerance."""
    known = [case.extra["spacing_mm"] for case in cases if case.extra.get("spacing_mm")]
    low, high = 1 - _EDGE_TOLERANCE, 1 + _EDGE_TOLERANCE
    return tuple((min(e) * low, max(e) * high) for e in zip(*known, strict=True)) or None


def probe_for(sets: Sets) -> Probe | None:
    """Return the probe named as where the real cases' labels come from; None: none is installed."""
    sides = (sets.real, sets.unseen, sets.training)
    sources = {subject.case.label_source for side in sides for subject in side}
    for plugin in registry.list_plugins():
        if plugin.kind == "probes" and plugin.name in sources:
            probe: Probe = registry.build("probes", Component(name=plugin.name))
            return probe
    return None
