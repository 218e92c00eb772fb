"""Tiles that somebody has cut: tables grouped by slide, and the files of PathLDM's loader."""

from __future__ import annotations

import csv
import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from voxella.case import Manifest
from voxella.case.parquet import TABLE
from voxella.errors import UserError
from voxella.imaging.volume import read_image
from voxella.testing import ImporterContract
from voxella_importers.tiles.plugin import tiles
from voxella_importers.wsi.plugin import wsi

REAL = Path(__file__).parents[2] / "shared/data/histology"
ALL: dict[str, Any] = {"val_share": 0.0, "test_share": 0.0}


def encoded(seed: int, form: str = "JPEG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, format=form)
    return packed.getvalue()


def table(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        (folder / row["file"]).write_bytes(encoded(number, "PNG"))
    with (folder / "tiles.csv").open("w", newline="") as file:
        written = csv.DictWriter(file, list(rows[0]))
        written.writeheader()
        written.writerows(rows)
    return folder


def rows(count: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "file": f"t{number}.png",
            "slide": f"s{number // 2}",
            "prob_tumor": [0.9, 0.1, "", 0.5][number % 4],
            "prob_til": [0.2, 0.7, 0.8, 0.4][number % 4],
            "report": ["Ductal carcinoma.", "Benign."][number // 2 % 2],
        }
        for number in range(count)
    ]


def test_a_table_becomes_captions_and_classes(tmp_path: Path) -> None:
    manifest = tiles(source=table(tmp_path / "in", rows()), **ALL)(tmp_path / "out")
    assert [case.id for case in manifest] == ["t0", "t1", "t2", "t3"]
    assert [case.group for case in manifest] == ["s0", "s0", "s1", "s1"]
    assert [manifest.read_report(case).strip() for case in manifest] == [
        "high tumor; low til; Ductal carcinoma.",
        "low tumor; high til; Ductal carcinoma.",
        "high til; Benign.",
        "high tumor; low til; Benign.",
    ]
    assert [case.label for case in manifest] == ["2", "1", None, "2"]
    assert manifest.cases[2].conditions == {"prob_til": 0.8}
    image = read_image(manifest.image_path(manifest.cases[3], "he"))
    assert np.array_equal(image.array, read_image(tmp_path / "in" / "t3.png").array)


def test_a_table_without_slides_is_refused(tmp_path: Path) -> None:
    bare = [{"file": "t0.png", "prob_til": 0.5}]
    importer = tiles(source=table(tmp_path / "in", bare), **ALL)
    with pytest.raises(UserError, match="no column says which slide"):
        importer(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_splits_never_cut_a_slide(tmp_path: Path) -> None:
    many = [
        {"file": f"t{number}.png", "slide": f"s{number // 4}", "prob_til": 0.5}
        for number in range(48)
    ]
    source = table(tmp_path / "in", many)
    manifest = tiles(source=source, val_share=0.3, test_share=0.3)(tmp_path / "out")
    found: dict[str, set[str]] = {}
    for case in manifest:
        found.setdefault(case.group, set()).add(case.split)
    assert all(len(splits) == 1 for splits in found.values())
    assert len({split for splits in found.values() for split in splits}) > 1
    torn = [{**row, "split": ["train", "test"][number % 2]} for number, row in enumerate(many)]
    with pytest.raises(UserError, match="one group in"):
        tiles(source=table(tmp_path / "torn", torn))(tmp_path / "out2")


def test_a_probability_outside_its_range_names_the_tile(tmp_path: Path) -> None:
    wrong = [{**row, "prob_tumor": 1.5} for row in rows()]
    with pytest.raises(UserError, match="tile t0: probability"):
        tiles(source=table(tmp_path / "in", wrong), **ALL)(tmp_path / "out")


def test_copied_tiles_lie_in_a_shard_of_their_slide(tmp_path: Path) -> None:
    many = rows()
    many[2]["slide"] = many[3]["slide"] = "slide 1/b"
    source = table(tmp_path / "in", many)
    manifest = tiles(source=source, copy=True, **ALL)(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "tiles").glob("*.shard")) == [
        "_00001.shard",
        "s0.shard",
    ]
    for number, case in enumerate(Manifest.read(tmp_path / "out")):
        assert not Path(case.images["he"]).is_absolute()
        found = read_image(manifest.image_path(case, "he"))
        assert np.array_equal(found.array, read_image(source / f"t{number}.png").array)


def test_wide_colours_are_not_packed(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    source = table(tmp_path / "in", rows())
    wide = np.random.default_rng(0).integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(wide, isVector=True), str(source / "t2.png"))
    with pytest.raises(UserError, match=r"t2: t2\.png has 16 bits a colour"):
        tiles(source=source, copy=True, **ALL)(tmp_path / "out")
    assert len(tiles(source=source, **ALL)(tmp_path / "out")) == 4


@pytest.mark.parametrize(("module", "name"), [("openslide", "wsi"), ("h5py", "tiles")])
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    (tmp_path / "x.hdf5").touch()
    (tmp_path / "train.npz").touch()
    monkeypatch.setitem(sys.modules, module, None)  # as though it were absent
    build: Callable[..., object] = wsi if name == "wsi" else tiles
    with pytest.raises(UserError, match="not installed") as refused:
        build(source=tmp_path)
    assert "voxella[histology]" in str(refused.value.remedy)


def test_several_tables_are_not_guessed_between(tmp_path: Path) -> None:
    source = table(tmp_path / "in", rows())
    (source / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"other\.csv, tiles\.csv"):
        tiles(source=source)
    assert len(tiles(source=source / "tiles.csv", **ALL)(tmp_path / "out")) == 4


@pytest.mark.skipif(not REAL.is_dir(), reason="no real tiles: ../shared/data is absent")
def test_real_tiles_of_camelyon16(tmp_path: Path) -> None:
    importer = tiles(
        source=REAL / "tiles_camelyon16", images=REAL, classes=["normal", "tumor"], **ALL
    )
    manifest = importer(tmp_path / "out")
    for label in ("tumor", "normal"):
        there = {path.stem for path in (REAL / "tiles_camelyon16" / label).glob("*.png")}
        assert {case.id for case in manifest if case.label == label} == there
    assert {case.group for case in manifest} == {
        path.name.rsplit("_", 2)[0] for path in (REAL / "tiles_camelyon16").glob("*/*.png")
    }
    case = manifest.cases[0]
    assert read_image(manifest.image_path(case, "he")).array.shape == (3, 256, 256, 1)


# The layout of PathLDM's loader, written with NumPy's own functions as its authors did.


def released(folder: Path, *, variants: int = 1, slides: int = 4, **other: Any) -> Path:
    h5py = pytest.importorskip("h5py", reason="the extra histology (h5py) is not installed")
    folder.mkdir()
    order = [(slide, tile) for tile in range(3) for slide in range(slides)]
    with h5py.File(folder / "TCGA_10x.hdf5", "w") as file:
        x = file.create_dataset("X", (len(order),), dtype=h5py.vlen_dtype(np.uint8))
        for place, (slide, tile) in enumerate(order):
            x[place] = np.frombuffer(encoded(10 * slide + tile), dtype=np.uint8)
        file["wsi"] = np.array([f"s{slide}".encode() for slide, _ in order])
        file["folder_name"] = np.array([f"{tile}_7".encode() for _, tile in order])
    (folder / "splits").mkdir()
    for name, wanted in (("train", range(slides - 1)), ("test", [slides - 1])):
        texts = {
            f"s{slide}": f"Slide {slide}."
            if variants == 1
            else [f"Slide {slide}, {told}." for told in range(variants)]
            for slide in wanted
        }
        values = {
            "indices": np.array([n for n, (slide, _) in enumerate(order) if slide in wanted]),
            "summaries": texts,
            "prob_tumor": {f"s{s}": {"0_7": 0.9, "1_7": np.float64(0.5)} for s in wanted},
            "prob_til": {f"s{s}": {f"{t}_7": 0.1 for t in range(3)} for s in wanted},
        }
        np.savez(folder / "splits" / f"{name}.npz", **{**values, **other})
    return folder


@pytest.mark.parametrize("variants", [1, 3])
@pytest.mark.parametrize("above", [5, 100])
def test_the_released_layout(tmp_path: Path, variants: int, above: int) -> None:
    source = released(tmp_path / "in", variants=variants)
    manifest = tiles(source=source, val_share=0.0, parquet_above=above)(tmp_path / "out")
    assert (tmp_path / "out" / TABLE).exists() == (above == 5)
    read = Manifest.read(tmp_path / "out")
    assert list(read) == list(manifest)
    assert len(read) == 12
    case = next(case for case in read if case.id == "s2_1_7")
    assert (case.group, case.split, case.label) == ("s2", "train", "2")
    assert case.conditions == {"prob_tumor": 0.5, "prob_til": 0.1}
    told = "Slide 2." if variants == 1 else "Slide 2, 0."
    assert read.read_report(case).strip() == f"high tumor; low til; {told}"
    assert sorted(case.texts) == ["report", "report_2", "report_3"][:variants]
    without = next(case for case in read if case.id == "s2_2_7")
    assert without.label is None
    assert read.read_report(without).startswith("low til; ")
    assert {case.group for case in read if case.split == "test"} == {"s3"}
    alone = tmp_path / "alone.jpg"
    alone.write_bytes(encoded(21))
    found = read_image(read.image_path(case, "he"))
    assert np.array_equal(found.array, read_image(alone).array)


def test_the_same_again_keeps_what_is_whole(tmp_path: Path) -> None:
    source = released(tmp_path / "in")
    importer = tiles(source=source, val_share=0.0)
    first = importer(tmp_path / "out")
    kept = tmp_path / "out" / "tiles" / "s1.shard"
    before = kept.stat().st_mtime_ns
    (tmp_path / "out" / "tiles" / "s0.parquet").unlink()
    assert importer(tmp_path / "out").cases == first.cases
    assert kept.stat().st_mtime_ns == before


class _Runs:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    source = released(tmp_path / "in")
    evil = io.BytesIO()
    npy.write_array_header_1_0(evil, {"descr": "|O", "fortran_order": False, "shape": ()})
    evil.write(pickle.dumps(np.array({"s0": _Runs(str(ran))}, dtype=object)))
    path = source / "splits" / "train.npz"
    with zipfile.ZipFile(path) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**held, "summaries.npy": evil.getvalue()}.items():
            archive.writestr(name, data)
    with pytest.raises(UserError, match="more than arrays, numbers and texts"):
        tiles(source=source)(tmp_path / "out")
    assert not ran.exists()
    # The same bytes in NumPy's own reader do run: the test would see it.
    with np.load(path, allow_pickle=True) as loaded:
        assert loaded["summaries"] is not None
    assert ran.exists()


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"indices": np.array([0, 99])}, "asks for row 99, and there are 12"),
        ({"indices": np.array([0.5])}, "no row numbers"),
        ({"indices": np.array([0, 1])}, "slides in train and in test: s0, s1"),
        ({"summaries": {"s0": [3]}}, "no texts"),
        ({"prob_tumor": {"s0": {"0_7": 1.5}}}, "not within 0 to 1"),
        ({"prob_til": [1, 2]}, "damaged, or not as"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, other: dict[str, Any], told: str) -> None:
    source = released(tmp_path / "in", **other)
    with pytest.raises(UserError, match=told):
        tiles(source=source)(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_row_without_a_picture_is_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="the extra histology (h5py) is not installed")
    source = released(tmp_path / "in")
    with h5py.File(source / "TCGA_10x.hdf5", "a") as file:
        file["X"][5] = np.zeros(9, dtype=np.uint8)
    with pytest.raises(UserError, match="row 5 of X holds no JPEG, PNG or TIFF"):
        tiles(source=source, val_share=0.0)(tmp_path / "out")


class TestTable(ImporterContract):
    """The contract of importers, over a table."""

    plugin: ClassVar[str] = "tiles"
    arguments: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _source(self, tmp_path: Path) -> None:
        type(self).arguments = {"source": table(tmp_path / "in", rows()), **ALL}


class TestReleased(ImporterContract):
    """The same over the released layout."""

    plugin: ClassVar[str] = "tiles"
    arguments: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _source(self, tmp_path: Path) -> None:
        type(self).arguments = {"source": released(tmp_path / "in"), "val_share": 0.0}


def test_a_label_that_is_no_class_is_told_once(tmp_path: Path) -> None:
    """Of a table of a million tiles nobody wants a line a row."""
    rows = [f"t{n}.png,s{n},{'normal' if n % 2 else 'tumor'}" for n in range(40)]
    table = tmp_path / "tiles.csv"
    table.write_text("\n".join(["file,slide,label", *rows]) + "\n")
    with pytest.raises(UserError) as caught:
        tiles(source=tmp_path)(tmp_path / "out")
    told = [line for line in caught.value.problem.splitlines() if "is none of" in line]
    assert len(told) == 2
    assert "20 of 40 rows" in told[0]
    assert "label 'tumor' is none of 0, 1, 2, 3" in told[0]
    assert "classes=[...]" in told[0]
