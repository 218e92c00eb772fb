"""Who is compared with whom: synthetic cases, the real cases of one split, training, unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

from voxella.case import Case, Manifest
from voxella.check.synthetic_sets import refuse_unfit
from voxella.data.pseudonyms import read_synthetic
from voxella.engine.hashes import shared_hashes
from voxella.errors import UserError
from voxella.files import sha256_json
from voxella.ranks import Ranks
from voxella.recipe.model import Recipe
from voxella.wording import listed

__all__ = ["SetSettings", "Sets", "Subject", "read_sets"]

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
        paths: One image per sequence of the recipe.
        scale: What stored intensities are divided by.
        shape: Voxels that its images must have.
        edges_mm: Smallest and largest voxel edge by axis that its images may have; None: any.
        content: Hash of the voxels and of all that decides how they are read.
    """

    case: Case
    group: str
    source: Case | None
    paths: tuple[Path, ...]
    scale: float
    shape: tuple[int, ...]
    edges_mm: tuple[Range, ...] | None
    content: str

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


@dataclass(frozen=True)
class SetSettings:
    """What a recipe says of the sets.

    Attributes:
        sequences: That every case has, in order.
        shape: Voxels of every image along R, A, S.
        real_split: The split compared with; None: the one that the synthetic cases are made from.
        made_from: The splits that the recipe makes synthetic cases from.
    """

    sequences: Sequence[str]
    shape: tuple[int, ...]
    real_split: str | None
    made_from: Sequence[str]

    @classmethod
    def of(cls, recipe: Recipe) -> SetSettings:
        """Return a recipe's."""
        size = recipe.prepare.size
        shape = (*size, *[1] * (3 - len(size)))
        return cls(recipe.data.sequences, shape, recipe.evaluate.real_split, recipe.sample.splits)


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
    split = compared_split(settings, split_of)
    files = {case.id: _images(settings, counterparts, case) for case in counterparts}
    foreign = [c for c in prepared if not c.extra.get("prepared_sha256")]
    unhashed = [path for case in foreign for path in _images(settings, prepared, case)]
    hashes = shared_hashes([*(p for paths in files.values() for p in paths), *unhashed], ranks)
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
        _counterpart(settings.shape, case, files[case.id], hashes, known, usual)
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
        {path: hashes[path] for paths in files.values() for path in paths},
    )


def _source(case: Case, known: dict[str, Case]) -> Case | None:
    return known.get(str(case.extra.get("source_case")))


def _images(settings: SetSettings, manifest: Manifest, case: Case) -> tuple[Path, ...]:
    return tuple(manifest.image_path(case, name) for name in settings.sequences)


def _maker(
    settings: SetSettings, prepared: Manifest, hashes: Mapping[Path, str]
) -> Callable[[Case], Subject]:
    def make(case: Case) -> Subject:
        paths = _images(settings, prepared, case)
        # Preparing has hashed all that decides the voxels: no need to read every file again.
        decides = case.extra.get("prepared_sha256") or [hashes[path] for path in paths]
        content = sha256_json(["prepared", decides, list(settings.sequences)])
        return Subject(case, case.group, case, paths, 1.0, settings.shape, None, content)

    return make


def _counterpart(
    shape: tuple[int, ...],
    case: Case,
    paths: tuple[Path, ...],
    hashes: Mapping[Path, str],
    known: dict[str, Case],
    usual: tuple[Range, ...] | None,
) -> Subject:
    source = _source(case, known)
    scale = float(case.extra.get("int16_scale") or 1.0)
    edges = usual if source is None else _range([source])
    content = sha256_json(["synthetic", [hashes[path] for path in paths], scale, shape, edges])
    group = case.group if source is None else source.group
    return Subject(case, group, source, paths, scale, shape, edges, content)


def _range(cases: Sequence[Case]) -> tuple[Range, ...] | None:
    """Return the voxel edges that these cases have, smallest and largest, with a tolerance."""
    known = [case.extra["spacing_mm"] for case in cases if case.extra.get("spacing_mm")]
    low, high = 1 - _EDGE_TOLERANCE, 1 + _EDGE_TOLERANCE
    return tuple((min(e) * low, max(e) * high) for e in zip(*known, strict=True)) or None


def compared_split(settings: SetSettings, split_of: Mapping[str, str]) -> str:
    """Return the split whose synthetic and real cases are compared.

    Asked for, or the only one; of a data set made from several splits, the first that the recipe
    names. Anything else is a mix.

    Raises:
        UserError: The cases stem from several splits and nothing says which is meant, or none from
            the one asked for.
    """
    found = Counter(split_of.values())
    asked, made = settings.real_split, settings.made_from
    if asked is not None and asked in found:
        return asked
    if asked is None and len(found) == 1:
        return next(iter(found))
    if asked is None and set(found) <= set(made):
        return next(split for split in made if split in found)
    wanted = asked or found.most_common(1)[0][0]
    other = sorted(name for name, split in split_of.items() if split != wanted)
    told = ", ".join(f"{count} from {split}" for split, count in sorted(found.items()))
    raise UserError(
        f"the synthetic cases are made from other splits than {wanted}, whose real cases they "
        f"would be compared with ({told}), such as {listed(other, 6)}: a distance between mixed "
        "splits has no meaning",
        expected="synthetic cases made from reports of one split, or one of several by its name",
        remedy=" or ".join(f"--set evaluate.real_split={split}" for split in sorted(found)),
    )
