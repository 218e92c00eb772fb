"""Importer `picai` on a tree made in its layout and on the real cases and marksheet."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.importers.picai import LabelRule, picai
from voxella.importers.picai_marksheet import read_marksheet
from voxella.plugins.contracts import Importer

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
    assert first.images["adc"] == str((source / "images" / "1" / "1_10_adc.mha").resolve())
    assert first.patient == second.patient == "1"


def test_fold_folders_that_were_not_merged_are_found(tmp_path: Path) -> None:
    tree(tmp_path / "fold0", ["1_10"])
    tree(tmp_path / "fold1", ["2_20"])
    made = picai(source=tmp_path, **KEEP)(tmp_path / "out")
    assert [case.id for case in made] == ["1_10", "2_20"]
    tree(tmp_path / "fold1", ["1_10"])
    with pytest.raises(UserError, match="study 1_10: t2w is there twice"):
        picai(source=tmp_path, **KEEP)(tmp_path / "other")


def test_official_splits(source: Path) -> None:
    folds = [{"train": ["1_10", "1_11"], "val": ["2_20"]}, {"train": ["2_20"], "val": ["3_30"]}]
    path = source / "picai" / "splits.json"
    path.parent.mkdir()
    path.write_text(json.dumps(folds))
    out = source / "out"
    with pytest.raises(UserError, match="study 3_30: not in fold 0 of the splits"):
        picai(source=source, splits=path)(out)
    made = picai(source=source, splits=source, skip_bad=True)(out)
    assert {case.id: case.split for case in made} == {
        "1_10": "train",
        "1_11": "train",
        "2_20": "val",
    }
    with pytest.raises(UserError, match=r"there is no fold 2\n  legal: 0 to 1"):
        picai(source=source, splits=path, fold=2)(out)


def test_without_splits_a_patient_stays_in_one(tmp_path: Path) -> None:
    cases = [f"{patient}_{study}" for patient in range(40) for study in range(2)]
    tree(tmp_path / "images", cases, sequences=("t2w",))
    made = picai(source=tmp_path, val_share=0.3, test_share=0.3)(tmp_path / "out")
    by_patient = {case.patient: case.split for case in made}
    assert all(by_patient[case.patient] == case.split for case in made)
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
    assert "study 1_10: no adc" in message
    assert "2_20_t2w.mha: a Git-LFS pointer" in message
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
    made = picai(source=source, reports=folder, **KEEP)(out)
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
