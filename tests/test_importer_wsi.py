"""Slides to tiles: what a tile holds, which are kept, and what is refused by name."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from small_slides import stained, write_slide

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.imaging.volume import read_image
from voxella.testing import ImporterContract
from voxella_importers.wsi.plugin import wsi

pytest.importorskip("openslide", reason="the extra histology (OpenSlide) is not installed")

REAL = Path(__file__).parents[2] / "shared/data/histology"
WHOLE = {"magnification": 20, "side": 32, "quality": None, "val_share": 0.0, "test_share": 0.0}


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "slides"
    folder.mkdir()
    return folder


def imported(slides: Path, out: str = "out", **arguments: Any) -> Manifest:
    return wsi(source=slides, **{**WHOLE, **arguments})(slides.parent / out)


def pixels(manifest: Manifest, case: Case) -> np.ndarray[Any, Any]:
    """Return (rows, columns, 3), undone from RAS: left is R, top is A."""
    array = read_image(manifest.image_path(case, "he")).array[..., 0]
    # Columns run to the patient's left in a file and to the right in an array, and so do rows.
    return np.asarray(array[:, ::-1, ::-1].transpose(2, 1, 0), dtype=np.uint8)


def test_a_tile_is_the_slide_where_its_place_says(slides: Path) -> None:
    drawn = stained(100, 150)
    write_slide(slides / "a.svs", drawn)
    manifest = imported(slides)
    # 100 x 150 holds 3 x 4 whole tiles of 32: what is left at the borders is dropped.
    assert len(manifest) == 12
    for case in manifest:
        x, y = int(case.extra["x"]), int(case.extra["y"])
        assert np.array_equal(pixels(manifest, case), drawn[y : y + 32, x : x + 32])
        assert case.id == f"a_{x // 32}_{y // 32}"
        assert case.extra["mpp"] == 0.5


@pytest.mark.parametrize(
    ("asked", "footprint"),
    [({"magnification": 10}, 64), ({"magnification": None, "mpp": 2.0}, 128)],
)
def test_tiles_are_cut_at_what_is_asked_for(
    slides: Path, asked: dict[str, Any], footprint: int
) -> None:
    # Stripes as wide as a tile's footprint: each tile is of one colour, if it is where it should.
    drawn = np.zeros((256, 256, 3), dtype=np.uint8)
    for column in range(256):
        drawn[:, column] = (200, 40 + 60 * (column // footprint), 160)
    write_slide(slides / "a.svs", drawn)
    manifest = imported(slides, **asked)
    assert len(manifest) == (256 // footprint) ** 2
    for case in manifest:
        inner = pixels(manifest, case)[:, 4:-4]
        assert inner.shape == (32, 24, 3)
        assert (inner == (200, 40 + 60 * (int(case.extra["x"]) // footprint), 160)).all()


def test_glass_is_left_out_by_its_share(slides: Path) -> None:
    drawn = np.full((64, 128, 3), 245, dtype=np.uint8)
    drawn[:, :32] = stained(64, 32)  # whole tiles of tissue
    drawn[:, 32:42] = stained(64, 10)  # 10 of 32 columns
    write_slide(slides / "a.svs", drawn)
    places = {share: imported(slides, f"o{share}", tissue=share) for share in (0.5, 0.3, 0.0)}
    assert [len(found) for found in places.values()] == [2, 4, 8]
    assert {case.extra["x"] for case in places[0.5]} == {0.0}


def test_edges_are_the_released_tilers_measure(slides: Path) -> None:
    drawn = np.full((32, 64, 3), (200, 100, 160), dtype=np.uint8)
    drawn[:, 32:] = stained(32, 32)
    write_slide(slides / "a.svs", drawn)
    (kept,) = imported(slides, edges=15.0)
    assert kept.extra["x"] == 32.0, "an even tile has no edges"


def test_a_probability_is_the_mean_of_overlapping_windows(slides: Path, tmp_path: Path) -> None:
    write_slide(slides / "a.svs", stained(128, 128))
    drawn = np.random.default_rng(3)
    rows = [(x, y, 48, 48, drawn.random()) for x in (0, 48) for y in (0, 48, 96)]
    for name, column in (("tumor", "prob_Tumor"), ("til", "prob_Lymphocytes")):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "a.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["minx", "miny", "width", "height", "prob_Other", column])
            table.writerows((*row[:4], 1 - row[4], row[4]) for row in rows)
    manifest = imported(slides, tumor=tmp_path / "tumor", til=tmp_path / "til")
    missing = 0
    for case in manifest:
        x, y = case.extra["x"], case.extra["y"]
        overlapping = [
            p
            for (left, top, width, height, p) in rows
            if min(x + 32, left + width) > max(x, left) and min(y + 32, top + height) > max(y, top)
        ]
        if not overlapping:
            missing += 1
            assert not case.conditions
            assert case.label is None
            continue
        mean = sum(overlapping) / len(overlapping)
        assert math.isclose(float(case.conditions["prob_tumor"] or 0), mean)
        word = "high" if mean >= 0.5 else "low"
        assert manifest.read_report(case) == f"{word} tumor; {word} til\n"
        assert case.label == ("3" if mean >= 0.5 else "0")
    assert missing == 4, "tiles at 96 only touch the windows that end there"
    assert len(list((manifest.folder / "reports" / "a").iterdir())) <= 2, "one file a caption"


def test_slides_without_magnification_are_refused_by_name_all_at_once(slides: Path) -> None:
    for name in ("one", "two"):
        write_slide(slides / f"{name}.svs", stained(64, 64), power=None, mpp=None)
    write_slide(slides / "three.svs", stained(64, 64))
    (slides / "four.svs").write_bytes(b"no slide")
    with pytest.raises(UserError) as refused:
        imported(slides)
    told = refused.value.problem
    assert "3 problems" in told
    assert "three" not in told
    assert "slide four: " in told
    for name in ("one", "two"):
        assert f"slide_magnification={{{name}: 40}}" in told
    assert not (slides.parent / "out").exists()
    (slides / "four.svs").unlink()
    given = imported(slides, slide_magnification={"one": 20, "two": 40})
    counts = [sum(case.group == name for case in given) for name in ("one", "two", "three")]
    assert counts == [4, 1, 4], "of two, 64 pixels at 40x are one tile of 32 at 20x"


def test_nothing_is_enlarged_and_mpp_is_not_guessed(slides: Path) -> None:
    write_slide(slides / "a.svs", stained(64, 64), mpp=None)
    with pytest.raises(UserError, match="nothing is enlarged"):
        imported(slides, magnification=40)
    with pytest.raises(UserError, match=r"slide_mpp={a: 0\.25}"):
        imported(slides, magnification=None, mpp=1.0)
    with pytest.raises(UserError, match="no whole tile"):
        imported(slides, side=100)


def test_read_errors_are_all_reported_and_whole_slides_kept(slides: Path) -> None:
    for name in ("a", "b", "c"):
        write_slide(slides / f"{name}.svs", stained(64, 64))
    for name in ("a", "c"):
        write_slide(slides / f"{name}.svs", stained(64, 64), damaged=True)
    with pytest.raises(UserError) as refused:
        imported(slides)
    assert "slide a: " in refused.value.problem
    assert "slide c: " in refused.value.problem
    assert "slide b: " not in refused.value.problem
    kept = slides.parent / "out" / "tiles" / "b.parquet"
    before = kept.stat().st_mtime_ns
    for name in ("a", "c"):
        write_slide(slides / f"{name}.svs", stained(64, 64))
    assert len(imported(slides)) == 12
    assert kept.stat().st_mtime_ns == before, "what was whole is not made again"


def test_a_lost_shard_and_another_setting_are_made_again(slides: Path) -> None:
    write_slide(slides / "a.svs", stained(64, 64))
    first = imported(slides)
    (first.folder / "tiles" / "a.shard").unlink()
    again = imported(slides)
    assert read_image(again.image_path(again.cases[0], "he")).is_colour
    assert len(imported(slides, side=16)) == 16


def test_processes_change_nothing(slides: Path) -> None:
    for name in "abcd":
        write_slide(slides / f"{name}.svs", stained(64, 96, ord(name)))
    assert imported(slides, workers=1).cases == imported(slides, "two", workers=2).cases


def test_splits_never_part_a_patient(slides: Path) -> None:
    for patient in range(8):
        for slide in "ab":
            write_slide(slides / f"P{patient}-{slide}.svs", stained(64, 64))
    manifest = imported(slides, group="^(P[0-9]+)-", val_share=0.3, test_share=0.3)
    splits: dict[str, set[str]] = {}
    for case in manifest:
        assert case.group == case.id.split("-")[0]
        splits.setdefault(case.group, set()).add(case.split)
    assert len(splits) == 8
    assert all(len(found) == 1 for found in splits.values())
    assert len({split for found in splits.values() for split in found}) > 1


def test_summaries_by_slide_or_patient(slides: Path, tmp_path: Path) -> None:
    for name in ("P1-a", "P1-b", "P2-a"):
        write_slide(slides / f"{name}.svs", stained(32, 32))
    table = tmp_path / "summaries.csv"
    table.write_text("id,variant,summary\nP1,0,Ductal carcinoma.\nP2-a,0,Benign.\nP2-a,1,None.\n")
    manifest = imported(slides, group="^(P[0-9])", summaries=table)
    texts = {case.id: manifest.read_report(case).strip() for case in manifest}
    assert texts == {
        "P1-a_0_0": "Ductal carcinoma.",
        "P1-b_0_0": "Ductal carcinoma.",
        "P2-a_0_0": "Benign.",
    }


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mpp": 1.0}, "one of the two"),
        ({"magnification": None}, "one of the two"),
        ({"side": 2}, "16 to 8192"),
        ({"tissue": 2.0}, "least share"),
        ({"group": "P"}, "one, the patient"),
        ({"quality": 0}, "JPEG"),
        ({"tumor": Path("/nowhere")}, "no folder"),
        ({"slide_mpp": -1.0}, "slide_mpp"),
    ],
)
def test_settings_are_refused(slides: Path, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        imported(slides, **arguments)


def test_tables_of_no_slide_are_refused_and_bad_ones_named(slides: Path, tmp_path: Path) -> None:
    write_slide(slides / "a.svs", stained(64, 64))
    tables = tmp_path / "tables"
    tables.mkdir()
    with pytest.raises(UserError, match="a table of none of 1 slides"):
        imported(slides, tumor=tables)
    (tables / "a.csv").write_text("minx,miny,width,height,prob_Other\n0,0,5,5,0.5\n")
    with pytest.raises(UserError, match="no column prob_Tumor; its probabilities: prob_Other"):
        imported(slides, tumor=tables)
    (tables / "a.csv").write_text("minx,miny,width,height,prob_Tumor\n0,0,5,5,1.5\n")
    with pytest.raises(UserError, match=r"a\.csv: line 2"):
        imported(slides, tumor=tables)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real slides: ../shared/data is absent")
def test_the_real_slide_and_the_real_table_format(tmp_path: Path) -> None:
    slides = tmp_path / "slides"
    slides.mkdir()
    name = "cmu-1-small-region"
    shutil.copy(REAL / "wsi" / f"{name}.svs", slides)
    for ours, theirs in (
        ("tumor", "breast-tumor-resnet34.tcga-brca"),
        ("til", "pancancer-lymphocytes-inceptionv4.tcga"),
    ):
        (tmp_path / ours).mkdir()
        shutil.copy(REAL / "wsinfer_csv" / f"{theirs}.csv", tmp_path / ours / f"{name}.csv")
    manifest = imported(
        slides,
        side=128,
        magnification=10,
        quality=90,
        tumor=tmp_path / "tumor",
        til=tmp_path / "til",
    )
    assert len(manifest) == 39
    import openslide

    with openslide.OpenSlide(slides / f"{name}.svs") as slide:
        whole = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"), float)
        inner = [case for case in manifest if case.extra["x"] and case.extra["y"]]
        for case in inner[::10]:
            x, y = int(case.extra["x"]), int(case.extra["y"])
            found = pixels(manifest, case)
            errors = {}
            for right, down in ((0, 0), (3, 0), (0, 3), (0, -3), (-3, 0)):
                there = whole[y + down :, x + right :][:256, :256]
                means = there.reshape(128, 2, 128, 2, 3).mean((1, 3))
                errors[right, down] = np.abs(means - found).mean()
            # Lanczos and JPEG against plain means of four pixels; elsewhere it is other tissue.
            assert min(errors, key=errors.__getitem__) == (0, 0)
            assert errors[0, 0] < 0.6 * min(errors[place] for place in errors if place != (0, 0))
            assert case.extra["mpp"] == pytest.approx(0.998)
            assert manifest.read_report(case) == "low tumor; low til\n"


class TestContract(ImporterContract):
    """The contract of importers, over two slides."""

    plugin: ClassVar[str] = "wsi"
    arguments: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _slides(self, slides: Path) -> None:
        for slide in "ab":
            write_slide(slides / f"{slide}.svs", stained(64, 64, ord(slide)))
        type(self).arguments = {"source": slides, **WHOLE}
