"""Tiles that are as training wants them stay in their shards; no file is written for a tile."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_prepare import recipe

from voxella.case import Case, Manifest
from voxella.data.tile_store import Tile, TileStore
from voxella.data.volumes import PreparedVolumes
from voxella.errors import UserError
from voxella.preparation.stage import prepare
from voxella.recipe.inputs import Intensity
from voxella.recipe.model import Recipe

SIZE = (24, 16)
WHOLE: dict[str, Any] = {
    "crop_mm": [None, None],
    "size": list(SIZE),
    "intensity": {"he": Intensity(rule="colour")},
}
KINDS = {".png": "PNG", ".jpg": "JPEG"}


def encoded(number: int, suffix: str, size: tuple[int, int] = SIZE, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(packed, format=KINDS[suffix])
    return packed.getvalue()


def dataset(folder: Path, tiles: list[tuple[bytes, str]], slides: int = 2) -> Path:
    """Put tiles into shards, in turns, and the same bytes into files of a second data set."""
    store, cases, loose = TileStore(folder / "shards", ()), [], []
    for slide in range(slides):
        name = f"slide{slide}"
        mine = tiles[slide::slides]
        store.write(name, (Tile(str(n), *tile, {}) for n, tile in enumerate(mine)), "")
        for row, (data, suffix) in zip(store.rows(name), mine, strict=True):
            facts: dict[str, Any] = {"id": f"{name}_{row.name}", "group": name, "label": "1"}
            cases.append(Case(images={"he": row.image}, extra={"mpp": 1.0}, **facts))
            path = f"{name}_{row.name}{suffix}"
            (folder / "files").mkdir(exist_ok=True)
            (folder / "files" / path).write_bytes(data)
            loose.append(Case(images={"he": path}, extra={"mpp": 1.0}, **facts))
    Manifest(folder / "shards", cases).write()
    Manifest(folder / "files", loose).write()
    return folder / "shards"


def wanted(**settings: Any) -> Recipe:
    return recipe(("he",), **{**WHOLE, **settings})


def volumes(folder: Path) -> PreparedVolumes:
    return PreparedVolumes(folder, sequences=["he"], spatial_dims=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_they_are_what_preparing_files_gives_to_the_bit(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxella.preparation.in_place._AT_ONCE", 2)
    tiles = [(encoded(n, suffix), suffix) for n, suffix in enumerate([".png", ".jpg"] * 3)]
    shards = dataset(tmp_path, tiles)
    made = prepare(wanted(), shards, tmp_path / "here", workers=workers)
    usual = prepare(wanted(), tmp_path / "files", tmp_path / "usual", workers=1)
    left = sorted(path.name for path in (tmp_path / "here").rglob("*"))
    assert left == ["dataset.json", "manifest.jsonl", "stage.json"]
    assert len(list((tmp_path / "usual" / "images").iterdir())) == len(tiles)
    here, there = volumes(tmp_path / "here"), volumes(tmp_path / "usual")
    assert here.ids == there.ids
    for name in here.ids:
        assert here.read(name).shape == (3, *SIZE)
        assert torch.equal(here.read(name), there.read(name))
    own = {"voxels_sha256", "prepared_sha256"}
    for case, other in zip(made, usual, strict=True):
        assert case.extra.keys() == other.extra.keys()
        assert {k: v for k, v in case.extra.items() if k not in own} == {
            k: v for k, v in other.extra.items() if k not in own
        }
    hashes = [case.extra["prepared_sha256"] for case in made]
    assert len(set(hashes)) == len(tiles)


def test_what_has_to_be_changed_is_prepared_as_ever(tmp_path: Path) -> None:
    """Another size, a palette, transparency that hides nothing: each has to be turned into RGB."""
    odd = (
        encoded(1, ".png", (30, 16)),
        encoded(2, ".png", mode="P"),
        encoded(3, ".png", mode="RGBA"),
    )
    shards = dataset(tmp_path, [(encoded(0, ".png"), ".png"), *((o, ".png") for o in odd)], 1)
    made = prepare(wanted(), shards, tmp_path / "out", workers=1)
    stays = [case.images["he"].endswith(".png") for case in made]
    assert stays == [True, False, False, False]
    assert all(volumes(tmp_path / "out").read(case.id).shape == (3, *SIZE) for case in made)


@pytest.mark.parametrize(
    "settings", [{"crop_voxels": [16, 16], "size": [16, 16]}, {"size": [12, 8]}]
)
def test_nothing_stays_where_tiles_are_cut_or_resampled(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    shards = dataset(tmp_path, [(encoded(n, ".png"), ".png") for n in range(2)])
    made = prepare(wanted(**settings), shards, tmp_path / "out", workers=1)
    assert all(case.images["he"].startswith("images/") for case in made)


def test_a_crop_of_the_whole_is_no_crop(tmp_path: Path) -> None:
    shards = dataset(tmp_path, [(encoded(0, ".png"), ".png")], 1)
    (case,) = prepare(wanted(crop_voxels=list(SIZE)), shards, tmp_path / "out", workers=1)
    assert Path(case.images["he"]).parent == shards / "tiles" / "slide0.shard"


def test_it_is_up_to_date_without_reading_a_tile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = dataset(tmp_path, [(encoded(n, ".png"), ".png") for n in range(4)])
    first = prepare(wanted(), shards, tmp_path / "out", workers=1)

    def unwanted(*_: object) -> bytes:
        raise AssertionError("a tile was read")

    with monkeypatch.context() as patched:
        patched.setattr("voxella.imaging.shards.read_row", unwanted)
        patched.setattr("voxella.preparation.in_place.read_row", unwanted)
        assert list(prepare(wanted(), shards, tmp_path / "out", workers=1)) == list(first)
    assert "prepare: up to date" in capsys.readouterr().out
    # A data set that was moved is looked at again, and named where it is now.
    shards.rename(tmp_path / "moved")
    again = prepare(wanted(), tmp_path / "moved", tmp_path / "out", workers=1)
    assert all(str(tmp_path / "moved") in case.images["he"] for case in again)
    hashes = [[case.extra["prepared_sha256"] for case in cases] for cases in (first, again)]
    assert hashes[0] == hashes[1], "the tiles are the same"


def test_a_changed_byte_is_told_by_case(tmp_path: Path) -> None:
    shards = dataset(tmp_path, [(encoded(n, ".png"), ".png") for n in range(4)])
    shard = shards / "tiles" / "slide1.shard"
    data = bytearray(shard.read_bytes())
    data[-9] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(UserError) as caught:
        prepare(wanted(), shards, tmp_path / "out", workers=1)
    assert "slide1_1" in str(caught.value)
    assert "checksum" in str(caught.value)
    assert "slide1_0" not in str(caught.value)
    kept = prepare(wanted(), shards, tmp_path / "out", workers=1, quarantine=True)
    assert [case.id for case in kept] == ["slide0_0", "slide0_1", "slide1_0"]


def test_a_shard_that_is_gone_in_training_is_named(tmp_path: Path) -> None:
    shards = dataset(tmp_path, [(encoded(n, ".png"), ".png") for n in range(2)])
    prepare(wanted(), shards, tmp_path / "out", workers=1)
    (shards / "tiles" / "slide0.shard").unlink()
    with pytest.raises(UserError, match="its shard cannot be opened") as caught:
        volumes(tmp_path / "out").read("slide0_0")
    assert "rm " not in str(caught.value), "the data set is not ours to remove"
