"""PathLDM's released layout to shards, texts and a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from voxella.case import Case, Manifest, Split
from voxella.data.drafts import DatasetWriter, split_of
from voxella.data.tile_store import Tile, TileStore, write_cases
from voxella.errors import UserError
from voxella.files import make_folder
from voxella.hashing import sha256_json, stat_marks
from voxella.machine import raise_if_machine
from voxella.progress import Steps
from voxella.wording import listed
from voxella_importers.captions import CaptionRule
from voxella_importers.tile_cases import TIL, TUMOR, TileCases, check_splits
from voxella_importers.tiles.released import ReleasedSplit, read_split, slides_of, text_of

__all__ = ["ReleasedImporter", "released_files"]

_COLUMNS = (TUMOR, TIL)
_FORMATS = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"II*\0": ".tif", b"MM\0*": ".tif"}
_DATASETS = ("X", "wsi", "folder_name")


def released_files(source: Path) -> tuple[Path, dict[str, Path]] | None:
    """Return the HDF5 file and the tables by split, where a folder has them; else None."""
    held = sorted([*source.rglob("*.hdf5"), *source.rglob("*.h5")])
    tables = {name: sorted(source.rglob(f"{name}.npz")) for name in ("train", "test")}
    if len(held) != 1 or any(len(found) > 1 for found in tables.values()) or not tables["train"]:
        return None
    return held[0], {name: found[0] for name, found in tables.items() if found}


class ReleasedImporter:
    """Reads the layout of PathLDM's released loader.

    Args:
        tiles: The HDF5 file.
        tables: ``train.npz`` and ``test.npz`` by split.
        rule: Levels and thresholds of captions and classes.
        captions: Texts begin with the levels.
        dataset_writer: Its seed and ``val_share`` take slides for validation out of train.
    """

    def __init__(
        self,
        tiles: Path,
        tables: dict[str, Path],
        rule: CaptionRule,
        *,
        captions: bool,
        dataset_writer: DatasetWriter,
    ) -> None:
        self.tiles = tiles
        self.tables = tables
        self.rule = rule
        self.captions = captions
        self.dataset_writer = dataset_writer

    def __call__(self, out: Path) -> Manifest:
        """Write shards, texts and the manifest under ``out``; slides that are whole are kept.

        Raises:
            UserError: A file is not as the loader has it; a slide stands in train and in test; a
                row holds no picture.
        """
        import h5py

        out = Path(out)
        tables = {name: read_split(path) for name, path in self.tables.items()}
        try:
            with h5py.File(self.tiles, "r") as file:
                return self._written(file, tables, out)
        except (OSError, KeyError) as error:
            raise_if_machine(error, self.tiles)
            raise UserError(f"{self.tiles}: no HDF5 file, or damaged") from error

    def _written(self, file: Any, tables: dict[str, ReleasedSplit], out: Path) -> Manifest:  # noqa: ANN401
        rows = self._rows(file, tables)
        splits: dict[str, Split] = {}
        for name, slides in rows.items():
            for slide in slides:
                splits[slide] = self._split(slide) if name == "train" else "test"
        check_splits("tiles", splits)
        make_folder(out)
        store = TileStore(out, _COLUMNS)
        marks = [stat_marks(path) for path in (self.tiles, *self.tables.values())]
        with Steps("slides", len(splits)) as steps:
            for name, slides in rows.items():
                for slide, places in slides.items():
                    facts = sha256_json([marks, slide, name])
                    if not store.is_whole(slide, facts):
                        store.write(slide, _tiles(file, slide, places, tables[name]), facts)
                    steps.advance(slide)
        count = sum(len(places) for slides in rows.values() for places in slides.values())
        cases = self._cases(out, rows, tables, splits)
        return write_cases(out, cases, count, parquet_above=self.dataset_writer.parquet_above)

    def _rows(
        self,
        file: Any,  # noqa: ANN401 - h5py has no types
        tables: dict[str, ReleasedSplit],
    ) -> dict[str, dict[str, NDArray[np.int64]]]:
        """Return rows by split and slide, judged."""
        absent = [name for name in _DATASETS if name not in file]
        if absent:
            raise UserError(
                f"{self.tiles}: no data set {listed(absent)}", expected="X, wsi, folder_name"
            )
        total = len(file["X"])
        problems = [
            f"{name}.npz asks for row {int(table.indices.max())}, and there are {total}"
            for name, table in tables.items()
            if len(table.indices) and int(table.indices.max()) >= total
        ]
        if problems:
            raise UserError("\n".join([f"{self.tiles}:", *problems]))
        rows = {name: slides_of(file["wsi"], table.indices) for name, table in tables.items()}
        both = set(rows["train"]) & set(rows.get("test", {}))
        if both:
            problems.append(f"slides in train and in test: {listed(sorted(both))}")
        for slide in dict.fromkeys(slide for slides in rows.values() for slide in slides):
            try:
                Case(id=slide, group="", images={})
            except ValidationError:
                # Not quoted: another column may stand there.
                problems.append("a slide's name is letters, digits and _ . - only, 100 at most")
        if problems:
            raise UserError("\n".join([f"{self.tiles}:", *dict.fromkeys(problems)]))
        return rows

    def _split(self, slide: str) -> Split:
        dataset_writer = self.dataset_writer
        return split_of(
            slide, seed=dataset_writer.seed, val_share=dataset_writer.val_share, test_share=0.0
        )

    def _cases(
        self,
        out: Path,
        rows: dict[str, dict[str, NDArray[np.int64]]],
        tables: dict[str, ReleasedSplit],
        splits: dict[str, Split],
    ) -> Iterator[Case]:
        made = TileCases(out, self.rule, "wsinfer", captions=self.captions)
        store = TileStore(out, _COLUMNS)
        for name, slides in rows.items():
            for slide in slides:
                texts = tables[name].summaries.get(slide, [])
                for tile in store.rows(slide):
                    yield made.case(slide, tile, group=slide, split=splits[slide], summaries=texts)


def _tiles(
    file: Any,  # noqa: ANN401 - h5py has no types
    slide: str,
    places: NDArray[np.int64],
    table: ReleasedSplit,
) -> Iterator[Tile]:
    tumor, til = table.tumor.get(slide, {}), table.til.get(slide, {})
    for place in places.tolist():
        told = file["X"][place]
        data = told if isinstance(told, bytes) else np.asarray(told).tobytes()
        suffix = next((s for begin, s in _FORMATS.items() if data.startswith(begin)), None)
        if suffix is None:
            raise UserError(f"{file.filename}: row {place} of X holds no JPEG, PNG or TIFF")
        name = text_of(file["folder_name"][place])
        yield Tile(name, data, suffix, {TUMOR: tumor.get(name), TIL: til.get(name)})
