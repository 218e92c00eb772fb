"""A reader study in its folder: what was chosen, the blinded files, and in which order they come.

``study.json`` says which number is which case. It is the key to the blinding, and nothing that
serves readers sends any of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from typing_extensions import TypedDict

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.files import atomic_path, write_json_atomic
from voxella.progress import print_line
from voxella.readers.blinding import Grid, blinded, grid_of
from voxella.readers.choice import choose_halves, drawn
from voxella.wording import counted, listed
from voxella.workspace.state import StateFile, sealed

__all__ = ["ANSWERS", "MOST_READERS", "Item", "ReaderStudy", "StudySettings", "make_study"]

STUDY = "study.json"
ANSWERS = "answers.jsonl"
MOST_READERS = 20
# Edges of voxels may differ by so much before readers see volumes stretched.
_SPACING_TOLERANCE = 0.05
Kind = Literal["real", "synthetic"]


@dataclass(frozen=True)
class StudySettings:
    """What a study is asked for.

    Attributes:
        readers: How many people read; every one of them all cases.
        cases: How many, half of them real.
        seed: Of all draws.
        sequence: Which image of a case.
    """

    readers: int = 2
    cases: int = 40
    seed: int = 0
    sequence: str = ""


@dataclass(frozen=True)
class Item:
    """One thing to be read.

    Attributes:
        number: From 1; drawn, so that it tells nothing.
        kind: What it is.
        case: Whose image.
        group: The patient.
        label: Of the case.
    """

    number: int
    kind: Kind
    case: str
    group: str
    label: str | None


class _Item(TypedDict):
    number: int
    kind: str
    case: str
    group: str
    label: str | None


class _Study(TypedDict):
    readers: int
    seed: int
    sequence: str
    suffix: str
    items: list[_Item]


_FILE: StateFile[dict[str, Any]] = StateFile(
    _Study, "the answers belong to the study as it was: restore the file, or begin with --out DIR"
)


@dataclass(frozen=True)
class ReaderStudy:
    """A study that was made.

    Attributes:
        folder: Its folder.
        readers: How many people read.
        seed: Of its draws.
        sequence: Which image of a case is read.
        suffix: Of the blinded files.
        items: By number.
    """

    folder: Path
    readers: int
    seed: int
    sequence: str
    suffix: str
    items: tuple[Item, ...]

    @classmethod
    def read(cls, folder: Path) -> ReaderStudy | None:
        """Return the study of a folder; None where there is none.

        Raises:
            UserError: It is damaged.
        """
        found = _FILE.read(folder / STUDY)
        if found is None:
            return None
        items = tuple(Item(**item) for item in found["items"])
        known = {name: found[name] for name in ("readers", "seed", "sequence", "suffix")}
        return cls(folder, items=items, **known)

    def order(self, reader: int) -> list[int]:
        """Return the numbers in the order in which a reader (from 1) sees them."""
        numbers = [item.number for item in self.items]
        return sorted(numbers, key=lambda n: (drawn(self.seed, "order", reader, n), n))

    def file(self, number: int) -> Path:
        """Return the blinded file of an item."""
        return self.folder / "images" / f"{number:04d}{self.suffix}"


def make_study(
    folder: Path,
    synthetic: Manifest,
    real: Manifest,
    settings: StudySettings,
    splits: Sequence[str] = ("val", "test"),
) -> ReaderStudy:
    """Choose the cases, write them blinded, and return the study.

    Args:
        folder: To write into.
        synthetic: The data set that is judged.
        real: Real cases on the same grid.
        settings: What is asked for.
        splits: Of the real cases; those that the model was trained on would be easier to tell from
            what it makes.

    Raises:
        UserError: A setting is out of range, there are not enough cases, or images lie on different
            grids.
    """
    if not 1 <= settings.readers <= MOST_READERS:
        raise UserError(f"{settings.readers} readers", expected=f"1 to {MOST_READERS}")
    sequence = _sequence(synthetic, real, settings.sequence)
    pools = [
        [case for case in cases if sequence in case.images]
        for cases in (real.split(*splits), list(synthetic))
    ]
    halves = choose_halves(pools[0], pools[1], settings.cases, settings.seed)
    kinds: tuple[Kind, Kind] = ("real", "synthetic")
    chosen = [(kind, case) for kind, cases in zip(kinds, halves, strict=True) for case in cases]
    chosen.sort(key=lambda one: (drawn(settings.seed, "number", one[0], one[1].id), one[0]))
    items = tuple(
        Item(number, kind, case.id, case.group, case.label)
        for number, (kind, case) in enumerate(chosen, start=1)
    )
    grid = grid_of(synthetic.image_path(halves[1][0], sequence))
    study = ReaderStudy(folder, settings.readers, settings.seed, sequence, grid.suffix, items)
    sources = [(real if kind == "real" else synthetic, case) for kind, case in chosen]
    _write_images(study, sources, grid)
    # Last: whoever sees it sees all the files.
    content = {
        "readers": study.readers,
        "seed": study.seed,
        "sequence": sequence,
        "suffix": study.suffix,
        "items": [vars(item) for item in items],
    }
    write_json_atomic(folder / STUDY, sealed(content))
    return study


def _write_images(study: ReaderStudy, sources: Sequence[tuple[Manifest, Case]], grid: Grid) -> None:
    stretched = []
    for item, (dataset, case) in zip(study.items, sources, strict=True):
        image = blinded(dataset.image_path(case, study.sequence), grid)
        with atomic_path(study.file(item.number)) as temporary:
            temporary.write_bytes(image.data)
        pairs = zip(image.spacing_mm, grid.spacing_mm, strict=True)
        if any(abs(own / common - 1) > _SPACING_TOLERANCE for own, common in pairs):
            stretched.append(case.id)
    if stretched:
        edges = " x ".join(f"{edge:g}" for edge in grid.spacing_mm)
        print_line(
            f"warning: voxels of {counted(len(stretched), 'case')} are of another size; readers "
            f"see all at {edges} mm, or the size would tell: {listed(stretched, 6)}"
        )


def _sequence(synthetic: Manifest, real: Manifest, asked: str) -> str:
    """Return the image that is read: as asked, or the first that both data sets have."""
    there = [list(dict.fromkeys(n for case in s for n in case.images)) for s in (synthetic, real)]
    common = [name for name in there[0] if name in there[1]]
    if not common:
        raise UserError(
            f"{synthetic.folder} and {real.folder} have no image of one name in common",
            expected=f"{listed(there[0], 6)} in both",
        )
    if asked and asked not in common:
        raise UserError(f"--sequence {asked}", expected=listed(common, 6))
    return asked or common[0]
