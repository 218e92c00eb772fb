"""Tiles of many slides as files: one shard of encoded bytes a slide, and a Parquet index beside it.

``tiles/SLIDE.shard`` holds the bytes, ``tiles/SLIDE.parquet`` says which tile lies where and what
is known of it. The index is written last: a slide that has one is whole, so that an import which
was stopped goes on with the next. Rows of a manifest point into shards; nothing else is read in
training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxella.case import Case, Manifest
from voxella.case.manifest import MANY
from voxella.case.parquet import TABLE, CaseTable, write_table
from voxella.errors import UserError
from voxella.files import atomic_path
from voxella.imaging.shards import SHARD, ShardWriter
from voxella.limits import TEXT_BYTES
from voxella.machine import raise_if_machine
from voxella.wording import shown_path

__all__ = ["FOLDER", "StoredTile", "Tile", "TileStore", "write_cases"]

FOLDER = "tiles"
_FACTS = b"voxella"
_SIZE = b"voxella.shard_bytes"


@dataclass(frozen=True)
class Tile:
    """A tile to be stored.

    Attributes:
        name: Within its slide, such as ``3_17``.
        data: Encoded bytes.
        suffix: Of their format: ``.jpg``, ``.png``.
        values: What is known of it, by the store's columns; None: not known.
    """

    name: str
    data: bytes
    suffix: str
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class StoredTile:
    """A row of an index.

    Attributes:
        name: Within its slide.
        image: Its path below the data set's folder.
        values: What is known of it.
    """

    name: str
    image: str
    values: dict[str, float | None]


class TileStore:
    """The tiles of one data set folder.

    Args:
        folder: The data set's.
        columns: What an index keeps of a tile, as numbers.
    """

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.folder = Path(folder) / FOLDER
        self.columns = tuple(columns)

    def write(self, slide: str, tiles: Iterable[Tile], facts: str) -> int:
        """Write a slide's shard, then its index; return how many tiles there are.

        Args:
            slide: Its id, allowed in a manifest.
            tiles: In the order in which they are to lie.
            facts: What the tiles were made from, such as a hash; see :meth:`is_whole`.
        """
        from pyarrow import Table
        from pyarrow.parquet import write_table as write_parquet

        index = self._index(slide)
        index.unlink(missing_ok=True)  # it would vouch for another shard
        rows: list[dict[str, Any]] = []
        with atomic_path(self.folder / f"{slide}{SHARD}") as shard, ShardWriter(shard) as writer:
            for tile in tiles:
                row = writer.add(tile.data, tile.suffix)
                known = {name: tile.values.get(name) for name in self.columns}
                rows.append({"name": tile.name, "row": row, **known})
        about = {_FACTS: facts.encode(), _SIZE: str(writer.size).encode()}
        table = Table.from_pylist(rows, schema=self._schema().with_metadata(about))
        with atomic_path(index) as temporary:
            write_parquet(table, str(temporary), compression="zstd")
        return len(rows)

    def is_whole(self, slide: str, facts: str) -> bool:
        """Return whether a slide lies there, made from the same; its shard's size is compared."""
        index = self._index(slide)
        if not index.is_file():
            return False
        try:
            about = self._opened(index).schema_arrow.metadata or {}
            held = (self.folder / f"{slide}{SHARD}").stat().st_size
        except UserError as error:
            raise_if_machine(error)
            return False
        except FileNotFoundError:
            return False
        return about.get(_FACTS) == facts.encode() and about.get(_SIZE) == str(held).encode()

    def rows(self, slide: str) -> Iterator[StoredTile]:
        """Yield a slide's tiles in the order in which they lie.

        Raises:
            UserError: It has no index, or a damaged one.
        """
        index = self._index(slide)
        TEXT_BYTES.require(index.stat().st_size if index.is_file() else 0, shown_path(index))
        file = self._opened(index)
        for batch in file.iter_batches(2048, use_threads=False):
            for row in batch.to_pylist():
                image = f"{FOLDER}/{slide}{SHARD}/{row['row']}"
                yield StoredTile(row["name"], image, {name: row[name] for name in self.columns})

    def _index(self, slide: str) -> Path:
        return self.folder / f"{slide}.parquet"

    def _schema(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        import pyarrow

        texts = [(name, pyarrow.string()) for name in ("name", "row")]
        return pyarrow.schema([*texts, *((name, pyarrow.float64()) for name in self.columns)])

    def _opened(self, index: Path) -> Any:  # noqa: ANN401 - pyarrow has no types
        import pyarrow
        from pyarrow.parquet import ParquetFile

        remedy = f"rm {index}, and import again: finished slides are kept"
        try:
            file = ParquetFile(index)
        except (OSError, pyarrow.ArrowException) as error:
            if isinstance(error, OSError):
                raise_if_machine(error, index)
            raise UserError(f"{shown_path(index)} is no index of tiles", remedy=remedy) from None
        if not file.schema_arrow.equals(self._schema(), check_metadata=False):
            raise UserError(f"{shown_path(index)} has other columns", remedy=remedy)
        return file


def write_cases(
    folder: Path, cases: Iterable[Case], count: int, *, parquet_above: int = MANY
) -> Manifest:
    """Write a manifest of tiles; above a number of cases as a table, of which nothing is held.

    Args:
        folder: The data set's.
        cases: In the manifest's order.
        count: How many they are.
        parquet_above: More become ``manifest.parquet``.
    """
    if count > parquet_above:
        return Manifest(folder, CaseTable(write_table(folder / TABLE, cases)))
    manifest = Manifest(folder, cases)
    manifest.write(parquet_above=None)
    return manifest
