"""Shards of tiles: what goes in comes out by the one reader, and what is harmed is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voxella.case import Case, Manifest
from voxella.case.parquet import TABLE
from voxella.check.headers import read_header
from voxella.data.tile_store import Tile, TileStore, write_cases
from voxella.hashing import sha256_bytes
from voxella.imaging.headers import check_image_file, file_parts
from voxella.imaging.problem import ImageError
from voxella.imaging.shards import row_of
from voxella.imaging.sources import hash_images
from voxella.imaging.volume import read_image

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}


def encoded(number: int, suffix: str = ".png", shape: tuple[int, ...] = (6, 9, 3)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, format=FORMATS[suffix])
    return packed.getvalue()


def tile(number: int, suffix: str = ".png", **values: float | None) -> Tile:
    return Tile(f"t{number}", encoded(number, suffix), suffix, values)


@pytest.fixture
def store(tmp_path: Path) -> TileStore:
    made = TileStore(tmp_path, ("x", "prob_til"))
    tiles = [tile(0, x=4.0, prob_til=None), tile(1, ".jpg", x=5.0), tile(2, ".tif", prob_til=0.25)]
    assert made.write("s1", tiles, "facts") == 3
    return made


@pytest.mark.parametrize("number", range(3))
def test_a_row_reads_as_the_same_bytes_in_a_file_do(
    store: TileStore, tmp_path: Path, number: int
) -> None:
    suffix = (".png", ".jpg", ".tif")[number]
    alone = tmp_path / f"alone{suffix}"
    alone.write_bytes(encoded(number, suffix))
    path = tmp_path / list(store.rows("s1"))[number].image
    row, file = read_image(path), read_image(alone)
    assert np.array_equal(row.array, file.array)
    assert row.white == file.white == 255.0
    assert row.spacing_mm is None
    header = read_header(path)
    assert (header.shape, header.colour) == ((9, 6), True)
    assert header.held_bytes == len(encoded(number, suffix))


def test_the_index_keeps_what_is_known(store: TileStore) -> None:
    rows = list(store.rows("s1"))
    assert [row.name for row in rows] == ["t0", "t1", "t2"]
    assert [row.values for row in rows] == [
        {"x": 4.0, "prob_til": None},
        {"x": 5.0, "prob_til": None},
        {"x": None, "prob_til": 0.25},
    ]


def test_a_slide_is_whole_only_by_its_own_facts_and_shard(store: TileStore) -> None:
    assert store.is_whole("s1", "facts")
    assert not store.is_whole("s1", "other settings")
    assert not store.is_whole("s2", "facts")
    shard = store.folder / "s1.shard"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert not store.is_whole("s1", "facts")


def test_a_stopped_slide_leaves_no_index(store: TileStore) -> None:
    def broken() -> object:
        yield tile(0)
        raise ValueError("the slide cannot be read")

    with pytest.raises(ValueError, match="cannot be read"):
        store.write("s1", broken(), "facts")  # type: ignore[arg-type]
    assert not store.is_whole("s1", "facts")
    assert [p.name for p in store.folder.iterdir()] == ["s1.shard"], "the former shard, no index"


def test_a_changed_byte_is_found(store: TileStore, tmp_path: Path) -> None:
    path = tmp_path / next(store.rows("s1")).image
    row = row_of(path)
    assert row is not None
    data = bytearray(row.shard.read_bytes())
    data[row.offset + row.length // 2] ^= 1
    row.shard.write_bytes(data)
    with pytest.raises(ImageError, match="checksum") as raised:
        read_image(path)
    assert raised.value.code == "image.damaged"


def test_what_is_not_there_is_refused_with_its_code(store: TileStore, tmp_path: Path) -> None:
    rows = [tmp_path / row.image for row in store.rows("s1")]
    shard = rows[0].parent
    shard.write_bytes(shard.read_bytes()[:-1])
    check_image_file(rows[0])
    with pytest.raises(ImageError) as cut:
        check_image_file(rows[-1])
    shard.write_bytes(b"not what it was" * 99)
    with pytest.raises(ImageError) as other:
        check_image_file(rows[0])
    shard.unlink()
    with pytest.raises(ImageError) as absent:
        check_image_file(rows[0])
    found = [error.value.code for error in (cut, other, absent)]
    assert found == ["image.truncated", "image.format", "image.absent"]


def test_a_file_in_a_folder_called_shard_stays_a_file(tmp_path: Path) -> None:
    path = tmp_path / "old.shard" / "tile.png"
    path.parent.mkdir()
    path.write_bytes(encoded(0))
    assert row_of(path) is None
    assert read_image(path).array.shape == (3, 9, 6, 1)


def test_a_tile_is_hashed_by_its_own_bytes(store: TileStore, tmp_path: Path) -> None:
    paths = [tmp_path / row.image for row in store.rows("s1")]
    hashes, problems = hash_images(paths, tmp_path / "memory.json")
    assert not problems
    assert hashes[paths[1]] == sha256_bytes(encoded(1, ".jpg"))
    assert len(set(hashes.values())) == 3
    assert file_parts(paths[0]) == [store.folder / "s1.shard"]


def test_wide_colours_in_a_shard_are_refused(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    wide = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(wide, isVector=True), str(tmp_path / "wide.png"))
    store = TileStore(tmp_path, ())
    store.write("s", [Tile("t", (tmp_path / "wide.png").read_bytes(), ".png", {})], "")
    with pytest.raises(ImageError, match="16 bits within a shard"):
        read_image(tmp_path / next(store.rows("s")).image)


@pytest.mark.parametrize("above", [2, 10])
def test_a_manifest_points_into_shards_in_either_form(
    store: TileStore, tmp_path: Path, above: int
) -> None:
    cases = [
        Case(id=f"s1_{row.name}", group="s1", images={"he": row.image}) for row in store.rows("s1")
    ]
    write_cases(tmp_path, iter(cases), len(cases), parquet_above=above)
    assert (tmp_path / TABLE).exists() == (above == 2)
    read = Manifest.read(tmp_path)
    assert list(read) == cases
    assert read_image(read.image_path(read.cases[2], "he")).is_colour
