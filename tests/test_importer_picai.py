"""Importer `picai` on a tree made in its layout and on the real cases and marksheet."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from voxella.case import Manifest
from voxella.data.drafts import split_of
from voxella.data.mask_grids import off_grid, read_grid
from voxella.errors import UserError
from voxella.plugins.contracts import Importer
from voxella_importers.picai.marksheet import LabelRule, read_marksheet
from voxella_importers.picai.plugin import picai

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
REAL = SHARED / "picai"
needs_shared = pytest.mark.skipif(not REAL.is_dir(), reason=f"real PI-CAI cases absent: {REAL}")
SECRET = "Laesie in de perifere zone"

HEADER = "patient_id,study_id,psa,lesion_PIRADS,lesion_GS,lesion_ISUP,case_ISUP,case_csPCa,center\n"
ROWS = (
    '1,10,5.1,"2,N/A","N/A,0+0",0,0,NO,RUMC\n'  # unequal lists: zipping would misalign
    '1,11,,"1,5",,,2,YES,PCNN\n'
    "2,20,7,,,,3,YES,RUMC\n"
    "3,30,8,3,3+3,1,1,NO,RUMC\n"
)
CASES = ("1_10", "1_11", "2_20", "3_30")
KEEP: dict[str, Any] = {"val_share": 0.0, "test_share": 0.0}
# The builder's own.
SHARES: dict[str, Any] = {"val_share": 0.1, "test_share": 0.1}


def tree(
    folder: Path, cases: Sequence[str] = CASES, sequences: Sequence[str] = ("t2w", "adc")
) -> Path:
    for case in cases:
        patient = case.split("_")[0]
        (folder / patient).mkdir(parents=True, exist_ok=True)
        for name in sequences:
            image = sitk.GetImageFromArray(np.ones((2, 3, 4), np.float32))
            sitk.WriteImage(image, str(folder / patient / f"{case}_{name}.mha"))
    return folder


def marksheet(folder: Path, text: str = HEADER + ROWS) -> Path:
    path = folder / "clinical_information" / "marksheet.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree(tmp_path / "images")
    marksheet(tmp_path / "picai_labels")
    return tmp_path


def labels(manifest: Manifest) -> dict[str, tuple[str | None, str | None]]:
    return {case.id: (case.label, case.label_source) for case in manifest}


def test_labels_by_each_rule(source: Path) -> None:
    def run(rule: LabelRule) -> dict[str, tuple[str | None, str | None]]:
        importer = picai(
            source=source / "images", labels=source / "picai_labels", label_from=rule, **KEEP
        )
        return labels(importer(source / rule))

    assert run("pirads_then_isup") == {
        "1_10": ("negative", "pirads"),
        "1_11": ("positive", "pirads"),
        "2_20": ("positive", "isup"),
        "3_30": ("positive", "pirads"),
    }
    assert run("isup") == {
        "1_10": ("negative", "isup"),
        "1_11": ("positive", "isup"),
        "2_20": ("positive", "isup"),
        "3_30": ("negative", "isup"),
    }
    assert run("pirads")["2_20"] == (None, None)


def test_a_marksheet_without_pirads_falls_back_to_isup(source: Path) -> None:
    text = "patient_id,study_id,case_ISUP,center\n1,10,0,X\n1,11,2,X\n2,20,3.0,X\n3,30,,X\n"
    marksheet(source / "old", text)
    made = picai(source=source / "images", labels=source / "old", **KEEP)(source / "out")
    assert labels(made) == {
        "1_10": ("negative", "isup"),
        "1_11": ("positive", "isup"),
        "2_20": ("positive", "isup"),
        "3_30": (None, None),
    }


def test_facts_are_kept_and_images_named_where_they_are(source: Path) -> None:
    made = picai(source=source, labels=source / "picai_labels", sequences=["t2w", "adc"], **KEEP)
    first, second = Manifest.read(made(source / "out").folder).cases[:2]
    assert first.extra == {"pirads": 2, "isup": 0, "center": "RUMC", "psa": 5.1}
    assert "psa" not in second.extra
    assert first.conditions == {"psa": 5.1, "center": "RUMC"}
    assert "psa" not in second.conditions
    assert first.images["adc"] == str((source / "images" / "1" / "1_10_adc.mha").resolve())
    assert first.group == second.group == "1"


def test_fold_folders_that_were_not_merged_are_found(tmp_path: Path) -> None:
    tree(tmp_path / "fold0", ["1_10"])
    tree(tmp_path / "fold1", ["2_20"])
    made = picai(source=tmp_path, **KEEP)(tmp_path / "out")
    assert [case.id for case in made] == ["1_10", "2_20"]
    tree(tmp_path / "fold1", ["1_10"])
    with pytest.raises(UserError, match=r"t2w is there twice: 1 \(1_10\)"):
        picai(source=tmp_path, **KEEP)(tmp_path / "other")


def test_official_splits(source: Path) -> None:
    folds = [{"train": ["1_10", "1_11"], "val": ["2_20"]}, {"train": ["2_20"], "val": ["3_30"]}]
    path = source / "picai" / "splits.json"
    path.parent.mkdir()
    path.write_text(json.dumps(folds))
    out = source / "out"
    with pytest.raises(UserError, match=r"not in fold 0 of the splits: 1 \(3_30\)"):
        picai(source=source, splits=path)(out)
    made = picai(source=source, splits=source, skip_bad=True)(out)
    assert {case.id: case.split for case in made} == {
        "1_10": "train",
        "1_11": "train",
        "2_20": "val",
    }
    with pytest.raises(UserError, match=r"there is no fold 2\n  expected: 0 to 1"):
        picai(source=source, splits=path, fold=2)(out)


def test_without_splits_a_patient_stays_in_one(tmp_path: Path) -> None:
    cases = [f"{patient}_{study}" for patient in range(40) for study in range(2)]
    tree(tmp_path / "images", cases, sequences=("t2w",))
    made = picai(source=tmp_path, val_share=0.3, test_share=0.3)(tmp_path / "out")
    by_patient = {case.group: case.split for case in made}
    assert all(by_patient[case.group] == case.split for case in made)
    assert set(by_patient.values()) == {"train", "val", "test"}


def test_incomplete_studies_are_named_together_or_left_out(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "images" / "1" / "1_10_adc.mha").unlink()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (source / "images" / "2" / "2_20_t2w.mha").write_text(pointer)
    with pytest.raises(UserError) as caught:
        picai(source=source, sequences=["t2w", "adc"], **KEEP)(source / "out")
    message = str(caught.value)
    assert "2 of 4 studies cannot be imported" in message
    assert "  no adc: 1 (1_10)" in message
    assert "  t2w: a Git-LFS pointer" in message
    assert "(2_20)" in message
    assert "skip_bad=true" in message
    assert not (source / "out").exists()
    made = picai(source=source, sequences=["t2w", "adc"], skip_bad=True, **KEEP)(source / "out")
    assert [case.id for case in made] == ["1_11", "3_30"]
    assert "2 studies left out" in capsys.readouterr().err


def test_reports_by_case_id_or_by_map(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source / "texts"
    folder.mkdir()
    (folder / "1_10.txt").write_bytes(f"{SECRET} é".encode("latin-1"))
    (folder / "jansen.txt").write_text(SECRET)
    out = source / "out"
    made = picai(source=source, reports=folder, encoding="latin-1", **KEEP)(out)
    assert [case.report for case in made] == ["reports/1_10.txt", None, None, None]
    assert (out / "reports" / "1_10.txt").read_text(encoding="utf-8") == f"{SECRET} é"
    assert stat.S_IMODE((out / "reports" / "1_10.txt").stat().st_mode) == 0o600
    assert SECRET not in (out / "manifest.jsonl").read_text()
    told = capsys.readouterr().err
    assert "1 of 2 reports not used" in told
    assert "3 of 4 cases have no report" in told
    assert "jansen" not in told
    (source / "map.json").write_text(json.dumps({"2_20": "jansen.txt", "9_99": "1_10.txt"}))
    (source / "map.csv").write_text("id;report\n2_20;jansen.txt\n9_99;1_10.txt\n")
    for name in ("map.json", "map.csv"):
        made = picai(source=source, reports=folder, reports_map=source / name, **KEEP)(out)
        assert [case.id for case in made if case.report] == ["2_20"]
        assert "1 of 2 reports not used" in capsys.readouterr().err


def test_reports_that_cannot_be_read_name_the_case_only(source: Path) -> None:
    (source / "map.json").write_text(json.dumps({"1_10": "jansen.txt", "2_20": "b.txt"}))
    (source / "b.txt").write_bytes(b"a\0b")
    with pytest.raises(UserError) as caught:
        picai(source=source, reports_map=source / "map.json", **KEEP)(source / "out")
    message = str(caught.value)
    assert "case 1_10: its report file does not exist" in message
    assert "case 2_20: its report file holds NUL bytes" in message
    assert "jansen" not in message


def test_without_a_marksheet_there_are_no_labels_and_a_warning(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = picai(source=source, **KEEP)(source / "out")
    assert {case.label for case in made} == {None}
    assert "none of 4 cases has one" in capsys.readouterr().err
    marksheet(source / "short", HEADER + "1,10,5,4,,,1,NO,X\n")
    made = picai(source=source, labels=source / "short", **KEEP)(source / "out")
    assert "3 of 4 cases are not in the marksheet: 1_11, 2_20, 3_30" in capsys.readouterr().err


def test_bad_marksheets_are_named_by_row(source: Path) -> None:
    rows = "1,10,5,6,,,0,NO,X\n1,10,5,3,,,0,NO,X\n1,11,abc,3,,,9,NO,X\n2,20,x,3,,,1,NO,X\n"
    marksheet(source / "bad", HEADER + rows)
    with pytest.raises(UserError) as caught:
        picai(source=source, labels=source / "bad")(source / "out")
    message = str(caught.value)
    assert "row 2: lesion_PIRADS is '6', not 1 to 5" in message
    assert "row 4: case_ISUP is '9', not 0 to 5" in message
    assert "row 5: psa is 'x', not a number" in message
    with pytest.raises(UserError, match="no marksheet there"):
        picai(source=source, labels=source / "images")(source / "out")
    marksheet(source / "other", "study_id,b\n1,2\n")
    with pytest.raises(UserError, match="not PI-CAI's marksheet"):
        picai(source=source, labels=source / "other")(source / "out")


def test_a_folder_of_another_layout_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no PI-CAI image found"):
        picai(source=tmp_path)(tmp_path / "out")
    with pytest.raises(UserError, match="no such folder"):
        picai(source=tmp_path / "none")(tmp_path / "out")
    with pytest.raises(UserError, match=r"'t1' is none of t2w(.|\n)*two, not 3"):
        picai(source=tmp_path, sequences=["t1"], classes=["a", "b", "c"])


@needs_shared
def test_the_real_marksheets_counts() -> None:
    """Counts as published with the marksheet of July 2026."""
    marks = read_marksheet(REAL / "picai_labels")
    assert len(marks) == 1500
    pirads = Counter(mark.pirads for mark in marks.values())
    assert [pirads[score] for score in range(1, 6)] == [137, 479, 151, 352, 381]
    isup = Counter(mark.isup for mark in marks.values())
    assert [isup[grade] for grade in range(6)] == [847, 228, 234, 99, 40, 52]
    assert sum("psa" not in mark.facts for mark in marks.values()) == 40


@needs_shared
def test_the_real_cases_with_real_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = SHARED / "reports" / "prostate_mri_nl"
    pairs = {"11373_1001396": "sample_1.txt", "10795_1000811": "sample_2.txt"}
    (tmp_path / "map.json").write_text(json.dumps(pairs))

    def build(fold: int) -> Importer:
        return picai(
            source=REAL,
            labels=REAL / "picai_labels",
            splits=REAL / "splits",
            fold=fold,
            sequences=["t2w", "adc", "hbv"],
            reports=texts,
            reports_map=tmp_path / "map.json",
        )

    # The official splits hold both for validation in fold 2, for training in fold 0.
    with pytest.raises(UserError, match="falls into the split train"):
        build(2)(tmp_path / "both_in_val")
    manifest = build(0)(tmp_path / "out")
    assert [(case.id, case.label, case.split) for case in manifest] == [
        ("10795_1000811", "positive", "train"),
        ("11373_1001396", "positive", "train"),
    ]
    told = capsys.readouterr().err
    assert "1 of 3 reports not used" in told
    original = (texts / "sample_1.txt").read_text(encoding="utf-8")
    assert manifest.read_report(manifest.cases[1]) == original
    words = [line for line in original.splitlines() if len(line) > 20]
    kept = (tmp_path / "out" / "manifest.jsonl").read_text()
    assert not any(line in kept or line in told for line in words)


BOSMA = "anatomical_delineations/whole_gland/AI/Bosma22b"
GUERBET = "anatomical_delineations/whole_gland/AI/Guerbet23"
RESAMPLED = "csPCa_lesion_delineations/human_expert/resampled"
POOCH = "csPCa_lesion_delineations/human_expert/Pooch25"
# The grid of the made images: 4 x 3 x 2 voxels of 0.5 x 0.5 x 3 mm, LPS.
GRID = np.diag([-0.5, -0.5, 3.0, 1.0])


def mask(
    labels: Path, folder: str, case: str, affine: Any = GRID, shape: tuple[int, ...] = (4, 3, 2)
) -> nib.Nifti1Image:
    image = nib.Nifti1Image(np.ones(shape, np.uint8), affine)
    (labels / folder).mkdir(parents=True, exist_ok=True)
    nib.save(image, labels / folder / f"{case}.nii.gz")
    return image


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    tree(tmp_path / "images")
    marksheet(tmp_path / "picai_labels")
    for path in (tmp_path / "images").rglob("*.mha"):
        image = sitk.ReadImage(str(path))
        image.SetSpacing((0.5, 0.5, 3.0))
        sitk.WriteImage(image, str(path))
    return tmp_path


def test_masks_on_the_grid_become_images_and_others_are_counted(
    masked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = masked / "picai_labels"
    moved, far = GRID.copy(), GRID.copy()
    # As far off as the worst of the seven real ones, and farther.
    moved[0, 3], far[0, 3] = 0.39, 0.61
    mask(folder, BOSMA, "1_10", moved)
    mask(folder, BOSMA, "1_11", far)
    mask(folder, GUERBET, "1_11")
    mask(folder, BOSMA, "2_20", shape=(4, 3, 1))
    mask(folder, GUERBET, "2_20", far)
    (folder / BOSMA / "README.md").write_text("not a mask")
    # sform only, as twelve files of Pooch25 are: nothing in the qform.
    plain = mask(folder, POOCH, "2_20")
    plain.set_qform(None, code=0)
    plain.set_sform(GRID, code=1)
    nib.save(plain, folder / POOCH / "2_20.nii.gz")
    assert nib.load(folder / POOCH / "2_20.nii.gz").header["qform_code"] == 0
    mask(folder, RESAMPLED, "1_10")
    made = picai(source=masked, labels=folder, masks=["gland", "lesion"], **KEEP)(masked / "out")
    cases = {case.id: case for case in made}
    assert cases["1_10"].images["gland"] == str((folder / BOSMA / "1_10.nii.gz").resolve())
    assert {c.id: c.extra.get("gland_mask") for c in made} == {
        "1_10": "Bosma22b", "1_11": "Guerbet23", "2_20": None, "3_30": None,
    }  # fmt: skip
    assert {c.id: c.extra.get("lesion_mask") for c in made} == {
        "1_10": "resampled", "1_11": None, "2_20": "Pooch25", "3_30": None,
    }  # fmt: skip
    assert "lesion" not in cases["1_11"].images
    told = capsys.readouterr().err
    assert "2 of 4 studies have no gland mask" in told
    assert (
        "Bosma22b is off the T2W grid, another number of voxels; "
        "Guerbet23 is off the T2W grid, more than 0.5 mm apart: 1 (2_20)" in told
    )
    assert "Bosma22b has none; Guerbet23 has none: 1 (3_30)" in told
    wide = picai(source=masked, labels=folder, masks=["Bosma22b"], mask_tolerance_mm=1, **KEEP)
    assert [c.id for c in wide(masked / "wide") if "gland" in c.images] == ["1_10", "1_11"]


def test_a_mask_known_to_be_faulty_is_not_taken(tmp_path: Path) -> None:
    tree(tmp_path / "images", ["11050_1001070"])
    folder = marksheet(tmp_path / "picai_labels")
    unit = np.diag([-1.0, -1.0, 1.0, 1.0])
    mask(folder, BOSMA, "11050_1001070", unit)
    mask(folder, GUERBET, "11050_1001070", unit)
    (case,) = picai(source=tmp_path, labels=folder, masks=["gland"], **KEEP)(tmp_path / "out")
    assert case.extra["gland_mask"] == "Guerbet23"


def test_mask_settings_are_checked(masked: Path) -> None:
    with pytest.raises(UserError) as caught:
        picai(source=masked, masks=["glnd", "gland", "Guerbet23"])
    message = str(caught.value)
    assert "masks: 'glnd' is none of gland, zones, lesion" in message
    assert "gland and Guerbet23 are both a mask of the gland" in message
    assert "masks: they need labels" in message
    importer = picai(source=masked, labels=masked / "picai_labels", masks=["zones"], **KEEP)
    with pytest.raises(
        UserError, match=r"Yuan23: no such folder\n  next:     give labels the whole"
    ):
        importer(masked / "out")


def test_nnunets_copy_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "imagesTr"
    folder.mkdir()
    for channel in ("0000", "0001", "0002"):
        image = sitk.GetImageFromArray(np.ones((2, 3, 4), np.float32))
        sitk.WriteImage(image, str(folder / f"1_10_{channel}.nii.gz"))
    (case,) = picai(source=folder, sequences=["t2w", "adc", "hbv"], **KEEP)(tmp_path / "out")
    assert case.id == "1_10"
    assert {name: Path(path).name for name, path in case.images.items()} == {
        "t2w": "1_10_0000.nii.gz", "adc": "1_10_0001.nii.gz", "hbv": "1_10_0002.nii.gz",
    }  # fmt: skip


def test_known_studies_without_images_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path / "images", ["1_10", "2_20"])
    folder = marksheet(tmp_path / "picai_labels")
    picai(source=tmp_path, labels=folder, **KEEP)(tmp_path / "out")
    told = capsys.readouterr().err
    assert "2 of 4 known studies have no images here and are not imported: 1_11, 3_30" in told


def test_many_bad_studies_are_one_line_a_problem(tmp_path: Path) -> None:
    tree(tmp_path, [f"{patient}_{patient}" for patient in range(1, 71)], sequences=("t2w",))
    with pytest.raises(UserError) as caught:
        picai(source=tmp_path, sequences=["t2w", "adc"])(tmp_path / "out")
    lines = str(caught.value).splitlines()
    assert lines[0] == "70 of 70 studies cannot be imported:"
    assert lines[1].startswith("  no adc: 70 (10_10, 11_11, ")
    assert lines[1].endswith(" and 20 more)")
    assert len(lines) == 3


def test_two_cases_and_default_shares_say_how_to_keep_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [p for p in map(str, range(400)) if split_of(p, seed=0, **SHARES) != "train"][:2]
    kept = next(p for p in map(str, range(400)) if split_of(p, seed=0, **SHARES) == "train")
    tree(tmp_path / "a", [f"{patient}_1" for patient in held])
    with pytest.raises(UserError) as caught:
        picai(source=tmp_path / "a")(tmp_path / "out_a")
    assert "none of the 2 cases falls into the split train" in str(caught.value)
    assert "--set val_share=0 --set test_share=0" in str(caught.value)
    assert len(picai(source=tmp_path / "a", **KEEP)(tmp_path / "out_a").split("train")) == 2
    tree(tmp_path / "b", [f"{held[0]}_1", f"{kept}_1"])
    picai(source=tmp_path / "b")(tmp_path / "out_b")
    assert "1 of only 2 cases are held out" in capsys.readouterr().err


@needs_shared
def test_the_real_cases_have_all_their_masks(tmp_path: Path) -> None:
    made = picai(
        source=REAL, labels=REAL / "picai_labels", masks=["gland", "zones", "lesion"], **KEEP
    )(tmp_path / "out")
    for case in made:
        assert [case.extra[f"{kind}_mask"] for kind in ("gland", "zones", "lesion")] == [
            "Bosma22b", "Yuan23", "resampled",
        ]  # fmt: skip
        assert {"t2w", "gland", "zones", "lesion"} == set(case.images)
        # Held against a second library: SimpleITK puts both onto one grid within 0.1 mm.
        image = sitk.ReadImage(case.images["t2w"])
        for kind in ("gland", "zones", "lesion"):
            other = sitk.ReadImage(case.images[kind])
            assert other.GetSize() == image.GetSize()
            corner = [size - 1 for size in image.GetSize()]
            assert np.allclose(
                other.TransformIndexToPhysicalPoint(corner),
                image.TransformIndexToPhysicalPoint(corner),
                atol=0.1,
            )


@needs_shared
def test_real_masks_that_are_cropped_are_off_the_grid() -> None:
    """Of the 21 cases here, six of HeviAI23 are cropped; gland and Yuan23 masks always fit."""
    folder = REAL / "picai_labels" / "anatomical_delineations"
    cases = sorted((folder / "whole_gland" / "AI" / "Guerbet23").glob("*.nii.gz"))
    grids = {path.name: read_grid(path) for path in cases}

    def off(name: str) -> list[str]:
        return [
            case for case in grids if off_grid(read_grid(folder / name / case), grids[case], 0.5)
        ]

    assert len(off("zonal_pz_tz/AI/HeviAI23")) == 6
    assert off("zonal_pz_tz/AI/Yuan23") == []
    assert off("whole_gland/AI/Bosma22b") == []


def test_conditions_have_the_names_that_recipes_use(source: Path) -> None:
    text = (
        "patient_id,study_id,case_ISUP,center,patient_age,psa,psad,prostate_volume\n"
        "1,10,0,ZGT,63,7.7,0.14,55\n1,11,2,,,,,\n2,20,3,X,70,,,\n3,30,,X,,1,,\n"
    )
    marksheet(source / "whole", text)
    made = picai(source=source / "images", labels=source / "whole", **KEEP)(source / "out")
    first, second = Manifest.read(made.folder).cases[:2]
    assert first.conditions == {
        "age": 63, "psa": 7.7, "psad": 0.14, "volume": 55, "center": "ZGT",
    }  # fmt: skip
    assert second.conditions == {}
