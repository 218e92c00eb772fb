"""Importer `prostate158`: both path styles in every layout, and the real tables."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.testing import ImporterContract
from voxella_importers.prostate158.plugin import prostate158, voxella_factory

DATA = REPOSITORY.parent / "shared" / "data" / "prostate158_csv"
STYLES = {"with train/": DATA / "webercsl_TCC_2", "without": DATA / "ieatsighpies_p158"}
needs_tables = pytest.mark.skipif(not DATA.is_dir(), reason=f"Prostate158's tables absent: {DATA}")

COLUMNS = (
    "ID", "t2", "adc", "dwi", "t2_anatomy_reader1", "t2_tumor_reader1", "adc_tumor_reader1",
    "t2_anatomy_reader2", "adc_tumor_reader2",
)  # fmt: skip
# What a case folder holds, by kind; the shape of one is a few voxels.
TUMOR = ("t2_tumor_reader1", "adc_tumor_reader1", "adc_tumor_reader2")


def row(number: int, tumors: Sequence[str], prefix: str = "", folder: str = "") -> dict[str, str]:
    """A row as the tables in circulation have it."""
    at = f"{prefix}{folder or f'{number:03d}'}"
    cells = {name: f"{at}/{name}.nii.gz" for name in COLUMNS[1:5]}
    cells |= {name: f"{at}/{name}.nii.gz" for name in tumors}
    if not tumors:
        cells["adc_tumor_reader1"] = f"{at}/empty.nii.gz"
    return {"ID": str(number), **cells}


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def write_case(folder: Path, rows: Mapping[str, str], shift_mm: float = 0.0) -> None:
    """Every file that a row names, under its own name, in a case folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for column, cell in rows.items():
        if column != "ID" and cell:
            affine = np.diag([0.4, 0.4, 3.0, 1.0])
            affine[0, 3] = shift_mm if "tumor" in column else 0.0
            drawn = np.zeros((4, 4, 2), np.uint8) if "empty" in cell else np.ones((4, 4, 2))
            nib.save(nib.Nifti1Image(drawn, affine, dtype=np.uint8), folder / Path(cell).name)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Four cases in three tables; 66 has a tumour on the ADC map only."""
    folder = tmp_path / "tables"
    write_table(
        folder / "train.csv",
        [row(24, (), "train/"), row(66, ("adc_tumor_reader1",), "train/")],
    )
    write_table(folder / "valid.csv", [row(20, TUMOR, "train/")])
    write_table(folder / "test.csv", [row(1, TUMOR, "test/")])
    return folder


LAYOUTS = ["{split}/{number:03d}", "{number:03d}", "prostate158_{split}/{split}/{number:03d}"]


def write_images(tables: Path, root: Path, layout: str) -> None:
    for table, split in (("train", "train"), ("valid", "train"), ("test", "test")):
        with (tables / f"{table}.csv").open(newline="") as stream:
            for cells in csv.DictReader(stream):
                folder = layout.format(split=split, number=int(cells["ID"]))
                write_case(root / folder, cells)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("style", ["{split}/", ""])
def test_every_style_finds_its_images_in_every_layout(
    tmp_path: Path, layout: str, style: str
) -> None:
    folder = tmp_path / "tables"
    write_table(folder / "train.csv", [row(24, (), style.format(split="train"))])
    write_table(folder / "test.csv", [row(1, TUMOR, style.format(split="test"))])
    write_table(folder / "valid.csv", [row(20, TUMOR, style.format(split="train"))])
    write_images(folder, tmp_path / "images", layout)
    made = prostate158(source=folder, images=tmp_path / "images", sequences=["t2w", "adc", "hbv"])(
        tmp_path / "out"
    )
    assert [(c.id, c.split, c.label) for c in Manifest.read(made.folder)] == [
        ("024", "train", "negative"),
        ("020", "val", "positive"),
        ("001", "test", "positive"),
    ]
    for case in made:
        names = {
            name: Path(path).relative_to(tmp_path / "images") for name, path in case.images.items()
        }
        assert {p.parent.name for p in names.values()} == {case.id}
        assert {name: p.name for name, p in names.items()} == {
            "t2w": "t2.nii.gz", "adc": "adc.nii.gz", "hbv": "dwi.nii.gz",
        }  # fmt: skip


def test_labels_say_that_they_come_from_a_drawn_lesion(tables: Path, tmp_path: Path) -> None:
    write_images(tables, tmp_path / "images", LAYOUTS[0])
    made = prostate158(source=tables, images=tmp_path / "images", classes=["no", "yes"])(
        tmp_path / "out"
    )
    assert {c.id: (c.label, c.label_source) for c in made} == {
        "024": ("no", "lesion_drawn"),
        "066": ("yes", "lesion_drawn"),
        "020": ("yes", "lesion_drawn"),
        "001": ("yes", "lesion_drawn"),
    }
    assert all(case.report is None for case in made)


def test_masks_are_kept_where_they_lie_on_the_grid(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    write_images(tables, images, LAYOUTS[0])
    write_case(images / "train" / "020", row(20, TUMOR), shift_mm=2.0)
    (images / "test" / "001" / "t2_anatomy_reader1.nii.gz").unlink()
    made = prostate158(source=tables, images=images, masks=["anatomy", "lesion"])(tmp_path / "out")
    assert {c.id: (c.extra.get("anatomy_mask"), c.extra.get("lesion_mask")) for c in made} == {
        "024": ("t2_anatomy_reader1", "empty"),
        "066": ("t2_anatomy_reader1", "adc_tumor_reader1"),
        "020": ("t2_anatomy_reader1", None),
        "001": (None, "t2_tumor_reader1"),
    }
    told = capsys.readouterr().err
    assert "2 of 4 cases lack a mask" in told
    assert "t2_tumor_reader1.nii.gz is off the T2W grid, more than 0.5 mm apart: 1 (020)" in told
    assert "no t2_anatomy_reader1.nii.gz: 1 (001)" in told


def test_absent_images_are_named_by_kind_or_left_out(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    write_images(tables, images, LAYOUTS[0])
    (images / "train" / "024" / "t2.nii.gz").unlink()
    (images / "test" / "001" / "t2.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec")
    importer = prostate158(source=tables, images=images)
    with pytest.raises(UserError) as caught:
        importer(tmp_path / "out")
    message = str(caught.value)
    assert "2 of 4 cases of the tables have no usable images" in message
    assert "  no t2.nii.gz: 1 (024)" in message
    assert "  t2.nii.gz: a Git-LFS pointer" in message
    assert not (tmp_path / "out").exists()
    made = prostate158(source=tables, images=images, skip_bad=True)(tmp_path / "out")
    assert [case.id for case in made] == ["066", "020"]
    assert "2 of 4 cases left out" in capsys.readouterr().err


def test_wrong_tables_are_named_together(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    rows = [row(24, ()), {**row(25, ()), "ID": "x"}, row(24, ())]
    write_table(folder / "train.csv", rows)
    (folder / "valid.csv").write_text("ID,t1\n1,a\n")
    with pytest.raises(UserError) as caught:
        prostate158(source=folder)(tmp_path / "out")
    message = str(caught.value)
    assert "train.csv: row 3: its ID is no number" in message
    assert "train.csv: row 4: ID 24 stands in train.csv, row 2, already" in message
    assert "valid.csv: no column t2, adc_tumor_reader1: not Prostate158's table" in message
    with pytest.raises(UserError, match=r"none of train.csv, valid.csv, test.csv there"):
        prostate158(source=tmp_path)(tmp_path / "out")
    with pytest.raises(UserError, match=r"'t1' is none of t2w(.|\n)*'gland' is none of anatomy"):
        prostate158(source=folder, sequences=["t1"], masks=["gland"])


def test_two_places_for_one_case_are_refused_unless_one_is_the_tables(tmp_path: Path) -> None:
    folder = tmp_path / "tables"
    write_table(folder / "train.csv", [row(24, ())])
    for place in ("a/024", "b/24"):
        write_case(tmp_path / "images" / place, row(24, ()))
    importer = prostate158(source=folder, images=tmp_path / "images")
    with pytest.raises(UserError, match=r"t2.nii.gz is there in two folders: 1 \(024\)"):
        importer(tmp_path / "out")
    write_case(tmp_path / "images" / "024", row(24, ()))
    (case,) = importer(tmp_path / "out")
    assert Path(case.images["t2w"]).parent == (tmp_path / "images" / "024").resolve()


@needs_tables
@pytest.mark.parametrize("style", STYLES)
def test_the_real_tables_without_images_say_what_is_absent(style: str, tmp_path: Path) -> None:
    importer = prostate158(source=STYLES[style], sequences=["t2w", "adc"])
    with pytest.raises(UserError) as caught:
        importer(tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("158 of 158 cases of the tables have no usable images below ")
    assert lines[1:3] == ["  no t2.nii.gz: 158 (001-158)", "  no adc.nii.gz: 158 (001-158)"]
    assert len(lines) == 5


@needs_tables
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_the_real_tables_import(style: str, layout: str, tmp_path: Path) -> None:
    """Counts by the data set's paper: 158 studies, 102 of them with a drawn lesion."""
    for number in range(1, 159):
        split = "test" if number < 20 else "train"
        folder = tmp_path / "images" / layout.format(split=split, number=number)
        folder.mkdir(parents=True)
        (folder / "t2.nii.gz").write_bytes(b"\x1f\x8b not read")
    made = prostate158(source=STYLES[style], images=tmp_path / "images")(tmp_path / "out")
    found = Counter((case.split, case.label) for case in made)
    assert found == {
        ("train", "negative"): 48, ("train", "positive"): 71, ("val", "negative"): 8,
        ("val", "positive"): 12, ("test", "positive"): 19,
    }  # fmt: skip
    (only_adc,) = [case for case in made if case.id == "066"]
    assert only_adc.label == "positive"


def test_the_hook_answers_for_its_own_name() -> None:
    assert voxella_factory("prostate158") is prostate158
    assert voxella_factory("picai") is None


class TestContract(ImporterContract):
    """The contract of importers, on a made data set of one case."""

    plugin = "prostate158"

    @pytest.fixture(autouse=True)
    def made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Write the data set and name it to the builder."""
        write_table(tmp_path / "train.csv", [row(24, ())])
        write_case(tmp_path / "024", row(24, ()))
        monkeypatch.setattr(type(self), "arguments", {"source": tmp_path, "masks": ["lesion"]})


def with_column(tables: Path, cells: Mapping[str, str]) -> None:
    """Join one more column to the first table, as whoever has the ages would."""
    path = tables / "train.csv"
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [*COLUMNS, "AGE"])
        writer.writeheader()
        writer.writerows(row | {"AGE": cells[row["ID"]]} for row in rows)


def test_conditions_are_columns_that_somebody_joined(tables: Path, tmp_path: Path) -> None:
    write_images(tables, tmp_path / "images", LAYOUTS[0])
    asked: dict[str, Any] = {
        "source": tables,
        "images": tmp_path / "images",
        "conditions": {"age": "AGE"},
    }
    with pytest.raises(UserError, match="no table has the column AGE"):
        prostate158(**asked)(tmp_path / "out")
    with_column(tables, {"24": "63", "66": ""})
    made = {case.id: case for case in prostate158(**asked)(tmp_path / "out")}
    assert made["024"].conditions == {"age": 63}
    # An empty cell, and the tables without the column.
    assert [made[case].conditions for case in ("066", "020", "001")] == [{}, {}, {}]
    with_column(tables, {"24": "Zebra of 63", "66": ""})
    with pytest.raises(UserError, match=r"row 2: .*AGE.* is more than one word") as caught:
        prostate158(**asked)(tmp_path / "again")
    assert "Zebra" not in str(caught.value)
