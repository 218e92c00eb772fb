"""Importer `dicom`: which series a rule means, b-values, and tables of reports and labels."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_writer import (
    CORONAL,
    SAGITTAL,
    assert_same_voxels,
    image,
    pixels,
    save,
    uid,
    write_series,
)
from pydicom.dataset import Dataset

from voxella.case import Case, Manifest
from voxella.data.importing import importer_component
from voxella.errors import UserError
from voxella_importers.dicom.headers import shown_description
from voxella_importers.dicom.identity import KEY_FILE, load_identity
from voxella_importers.dicom.plugin import dicom
from voxella_importers.dicom.settings import DEFAULT_RULES, SeriesRule
from voxella_importers.dicom.values import b_value


def run(source: Path, out: Path, **settings: Any) -> Manifest:
    return dicom(source=source, val_share=0, test_share=0, **settings)(out)


def refused(source: Path, out: Path, *words: str, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        dicom(source=source, **settings)(out)
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("sequence", "fitting", "others"),
    [
        (
            "t2w",
            ["t2_tse_tra", "T2W_TSE_ax", "Ax T2 FRFSE", "t2_spc_rst_axial_obl_Prostate", "T2"],
            ["tfl_3d PD ref_tra_1.5x1.5_t2", "T2* map", "t1_tse_tra", "ep2d_diff_tra", "t20"],
        ),
        (
            "adc",
            ["ep2d_diff_tra_DYNDIST_ADC", "dADC_map", "Apparent Diffusion Coefficient (mm2/s)"],
            ["ep2d_diff_tra_DYNDIST", "eADC", "t2_tse_tra"],
        ),
        (
            "hbv",
            ["ep2d_diff_tra_DYNDIST", "diffCALC_BVAL", "DWI_b1400", "AX DWI 50_400_800", "b=1000"],
            ["ep2d_diff_tra_DYNDIST_ADC", "ep2d_diff_FA", "t2_tse_tra", "tfl_3d"],
        ),
    ],
)
def test_rules_for_common_names(sequence: str, fitting: list[str], others: list[str]) -> None:
    rule = DEFAULT_RULES[sequence]
    assert [name for name in fitting if not rule.fits(name)] == []
    assert [name for name in others if rule.fits(name)] == []


def test_planes_tell_series_of_one_description_apart(tmp_path: Path) -> None:
    source = tmp_path / "in"
    paths = {
        "sag": write_series(source, series=3, orientation=SAGITTAL),
        "t2w": write_series(source, series=4),
        "cor": write_series(source, series=5, orientation=CORONAL),
    }
    manifest = run(source, tmp_path / "out", sequences=["t2w", "sag", "cor"])
    (case,) = manifest
    assert list(case.images) == ["t2w", "sag", "cor"]
    for sequence, files in paths.items():
        assert_same_voxels(files, manifest.image_path(case, sequence))


@pytest.mark.parametrize(("pick", "expected"), [("first", 4), ("last", 9)])
def test_the_first_or_last_of_several_series(tmp_path: Path, pick: str, expected: int) -> None:
    source = tmp_path / "in"
    for number in (9, 4, 7):
        write_series(source, series=number, voxels=pixels(number))
    rules = {"t2w": {"description": "t2", "pick": pick}}
    manifest = run(source, tmp_path / "out", rules=rules)
    voxels = nib.load(manifest.image_path(manifest.cases[0], "t2w")).get_fdata()
    assert voxels.min() == pixels(expected).min()


def diffusion(folder: Path, **fields: Any) -> None:
    """b 50, 400 and 800 in one series, in the order in which a scanner sends them."""
    for time, value in enumerate((50, 400, 800)):
        for index in range(4):
            own = {"SequenceName": f"*ep_b{value}t", "InstanceNumber": 4 * time + index + 1}
            dataset = image(
                index,
                vary=(value,),
                series=6,
                SeriesDescription="ep2d_diff_tra",
                voxels=pixels(index) + np.uint16(value),
                **{**own, **fields},
            )
            save(folder / "dwi" / f"{time}-{index}.dcm", dataset)


@pytest.mark.parametrize(("wanted", "expected"), [(50.0, 50), (400, 400), ("highest", 800)])
def test_one_b_value_is_taken_out_of_a_series(
    tmp_path: Path, wanted: float | str, expected: int
) -> None:
    diffusion(tmp_path / "in")
    # An ADC map, with the highest b-value in it as Siemens does, is no diffusion image.
    adc: dict[str, Any] = {
        "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"],
        "DiffusionBValue": 2000.0,
    }
    write_series(tmp_path / "in", series=7, SeriesDescription="ep2d_diff_tra_ADC", **adc)
    rules = {"hbv": {"description": "diff", "exclude": "ADC", "b_value": wanted}}
    manifest = run(tmp_path / "in", tmp_path / "out", rules=rules)
    volume = nib.load(manifest.image_path(manifest.cases[0], "hbv"))
    assert volume.shape == (5, 6, 4)
    assert volume.header.get_zooms()[2] == pytest.approx(3.0)
    assert sorted(set(volume.get_fdata()[..., 0].flatten())) == [expected + v for v in range(30)]


def test_the_highest_b_value_is_sought_in_all_series_that_fit(tmp_path: Path) -> None:
    diffusion(tmp_path / "in")
    calculated: dict[str, Any] = {"DiffusionBValue": 1400.0, "voxels": pixels(9)}
    write_series(tmp_path / "in", series=8, SeriesDescription="diff CALC_BVAL", **calculated)
    manifest = run(tmp_path / "in", tmp_path / "out", sequences=["hbv"])
    voxels = nib.load(manifest.image_path(manifest.cases[0], "hbv")).get_fdata()
    assert voxels.min() == 900
    legal = "no b-value 1000; there are 50, 400, 800, 1400"
    rules = {"hbv": {"description": "diff", "b_value": 1000.0}}
    refused(tmp_path / "in", tmp_path / "out", legal, rules=rules)
    # The same b-value twice is two candidates again.
    write_series(tmp_path / "in", series=9, SeriesDescription="DWI", DiffusionBValue=1400.0)
    refused(tmp_path / "in", tmp_path / "out", "2 series fit its rule", sequences=["hbv"])


def test_a_truncated_file_may_be_of_any_b_value(tmp_path: Path) -> None:
    """The series is refused even where the wanted b-value still makes a volume."""
    diffusion(tmp_path / "in")
    path = tmp_path / "in" / "dwi" / "2-3.dcm"
    path.write_bytes(path.read_bytes()[:-9])
    words = "a file is truncated: the file ends before its pixels do"
    refused(tmp_path / "in", tmp_path / "out", words, sequences=["hbv"])
    shutil.rmtree(tmp_path / "in")
    diffusion(tmp_path / "in")
    # Nor is 800 taken for the highest where what may be higher cannot be read.
    other: dict[str, Any] = {"series": 8, "SeriesDescription": "diff CALC_BVAL"}
    for path in write_series(tmp_path / "in", **other):
        path.write_bytes(path.read_bytes()[:-9])
    refused(tmp_path / "in", tmp_path / "out", "5 files are truncated", sequences=["hbv"])


def test_diffusion_without_b_values_is_refused(tmp_path: Path) -> None:
    diffusion(tmp_path / "in", SequenceName="*ep_b50_800")
    words = ("no b-value is recorded in series 6", "give a rule without b_value")
    refused(tmp_path / "in", tmp_path / "out", *words, sequences=["hbv"])


def private(owner: str, group: int, element: int, kind: str, value: Any) -> Dataset:
    dataset = Dataset()
    dataset.private_block(group, owner, create=True).add_new(element, kind, value)
    return dataset


def fields(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (fields(DiffusionBValue=800.0, SequenceName="*ep_b50t"), 800),
        (fields(SequenceName="*ep_b1000#1"), 1000),
        (fields(SequenceName="ep_b0"), 0),
        (fields(SequenceName="*ep_b50_800"), None),
        (fields(SequenceName="*tse2d1_25"), None),
        (private("SIEMENS MR HEADER", 0x19, 0x0C, "IS", "1400"), 1400),
        # As an archive stores it that does not know the field.
        (private("SIEMENS MR HEADER", 0x19, 0x0C, "OB", b"400 "), 400),
        (private("SOMEBODY ELSE", 0x19, 0x0C, "IS", "1400"), None),
        (private("Philips Imaging DD 001", 0x2001, 0x03, "FL", 600.0), 600),
        (private("GEMS_PARM_01", 0x43, 0x39, "IS", ["1000000800", "8", "0", "0"]), 800),
        (private("GEMS_PARM_01", 0x43, 0x39, "IS", ["50", "8", "0", "0"]), 50),
        (fields(ImageType=["DERIVED", "PRIMARY", "ADC"], DiffusionBValue=800.0), None),
        (fields(), None),
    ],
)
def test_b_values_of_all_manufacturers(dataset: Dataset, expected: float | None) -> None:
    assert b_value(dataset) == expected


def test_settings_are_checked_together() -> None:
    with pytest.raises(UserError) as caught:
        dicom(
            source=Path("x"),
            sequences=["t2w", "dce", "a/b"],
            rules={"adc": SeriesRule(description="adc")},
            keep=["PatientName", "StudyDate", "AccessionNumber", "Nonsense"],
            columns={"patient": "x"},
            label_names={"0": "none"},
            val_share=1,
        )
    for words in (
        "'dce' has no rule, and only t2w, sag, cor, adc, hbv have one",
        "'adc' is not among the sequences t2w, dce, a/b",
        "'a/b' cannot name a file",
        "PatientName (PN) may identify a person",
        "StudyDate (DA) may identify a person",
        "AccessionNumber (SH) may identify a person",
        "'Nonsense' is no DICOM keyword",
        "'patient' is none of id, label",
        "'none' is none of the classes",
        "val_share 1",
    ):
        assert words in str(caught.value)


def test_rules_are_held_to_their_form_on_the_command_line(tmp_path: Path) -> None:
    good = "rules={t2w: {description: t2_tse, plane: axial, pick: last}, d: {description: x}}"
    block = importer_component("dicom", str(tmp_path), [good, "rules.d.b_value=800"])
    assert block.arguments["rules"]["t2w"].pick == "last"
    assert block.arguments["rules"]["d"].b_value == 800
    bad = "rules={t2w: {description: '(', plane: tilted, b: 1}}"
    with pytest.raises(UserError) as caught:
        importer_component("dicom", str(tmp_path), [bad, "keyed_by=name"])
    for words in ("not a regular expression", "'tilted'", "rules.t2w.b:", "keyed_by"):
        assert words in str(caught.value)


def test_descriptions_are_shown_by_their_known_words_only() -> None:
    for whole in ("t2_tse_tra", "ep2d_diff_tra_DYNDISTCALC_BVAL", "DWI_b1400"):
        assert shown_description(whole) == whole
    assert shown_description("t2_tse_tra Jansen, Piet 1961-03-07 MRN123") == "t2_tse_tra_…"
    assert shown_description("Jansen t2") == "…_t2"
    assert shown_description("") == ""


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    for study in "abc":
        write_series(tmp_path / "in", study=study)
    return tmp_path / "in"


def by_study(manifest: Manifest) -> dict[str, Case]:
    """Cases by original study: who has the key finds them back."""
    identity = load_identity(None, manifest.folder)
    cases = {case.id: case for case in manifest}
    return {study: cases[identity.case(uid(study))] for study in "abc"}


def test_reports_and_labels_are_joined_by_the_original_identifier(
    studies: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "accession-a.txt").write_text("Report of a.")
    (tmp_path / "texts" / "accession-z.txt").write_text("Report of z.")
    (tmp_path / "labels.csv").write_text("Acc;Class\naccession-a;1\naccession-b;0\naccession-c;\n")
    out = tmp_path / "out"
    manifest = run(
        studies,
        out,
        reports=tmp_path / "texts",
        labels=tmp_path / "labels.csv",
        columns={"id": "Acc", "label": "Class"},
        label_names={"1": "positive", "0": "negative"},
        label_source="pirads",
    )
    cases = by_study(manifest)
    assert {study: case.label for study, case in cases.items()} == {
        "a": "positive",
        "b": "negative",
        "c": None,
    }
    assert (cases["a"].label_source, cases["c"].label_source) == ("pirads", None)
    assert cases["a"].report == f"reports/{cases['a'].id}.txt"
    assert manifest.read_report(cases["a"]) == "Report of a."
    assert stat.S_IMODE((out / "reports" / f"{cases['a'].id}.txt").stat().st_mode) == 0o600
    assert cases["b"].report is None


@pytest.mark.parametrize("kind", ["study", "accession", "patient"])
@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_map_of_reports_may_be_keyed_by_any_identifier(
    studies: Path, tmp_path: Path, kind: str, form: str
) -> None:
    (tmp_path / "r1.txt").write_text("First.")
    original = uid("b") if kind == "study" else f"{kind}-b"
    path = tmp_path / f"map.{form}"
    table = f"id,report\n{original},r1.txt\n"
    path.write_text(json.dumps({original: "r1.txt"}) if form == "json" else table)
    manifest = run(studies, tmp_path / "out", reports_map=path, keyed_by=kind)
    reports = {study: manifest.read_report(case) for study, case in by_study(manifest).items()}
    assert reports == {"a": "", "b": "First.", "c": ""}


def test_tables_that_do_not_join_are_refused(studies: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = tmp_path / "t.csv"
    table.write_text(
        "id,label\naccession-a,maybe\naccession-b,positive\naccession-b,negative\n,x\n"
    )
    message = refused(
        studies,
        out,
        "labels: row 2: its label is none of negative, positive",
        "labels: the identifier of entry 2 stands there twice",
        labels=table,
        skip_bad=True,
    )
    assert "accession-" not in message
    table.write_text("id,label\n0001,positive\n")
    refused(studies, out, "none of its 1 entries has the AccessionNumber", labels=table)
    refused(
        studies, out, "none of its 1 entries has the PatientID", labels=table, keyed_by="patient"
    )
    table.write_text("number,label\n1,positive\n")
    refused(studies, out, "no column id", "columns={id: YOURS", labels=table)
    (tmp_path / "map.json").write_text('{"accession-a": "none.txt"}')
    refused(studies, out, "its report file does not exist", reports_map=tmp_path / "map.json")
    (tmp_path / "map.json").write_text("[]")
    refused(studies, out, "not an object of file names", reports_map=tmp_path / "map.json")


def test_one_report_for_two_studies_is_refused(studies: Path, tmp_path: Path) -> None:
    write_series(studies, study="second", PatientID="patient-a")
    (tmp_path / "map.json").write_text('{"patient-a": "a.txt"}')
    (tmp_path / "a.txt").write_text("Whose?")
    words = ("shares its PatientID with another study", "--set keyed_by=study")
    settings = {"reports_map": tmp_path / "map.json", "keyed_by": "patient"}
    refused(studies, tmp_path / "out", *words, **settings)


def test_studies_of_one_patient_share_a_split(tmp_path: Path) -> None:
    # The split follows from the hashes, and so from the key.
    (tmp_path / KEY_FILE).write_text("ab" * 32)
    for number in range(12):
        write_series(tmp_path / "in", 3, study=f"s{number}", PatientID=f"p{number % 6}")
    importer = dicom(source=tmp_path / "in", val_share=0.3, test_share=0.3)
    manifest = importer(tmp_path / "out")
    splits = {case.group: case.split for case in manifest}
    assert len(splits) == 6
    assert len(set(splits.values())) > 1
    assert [case.split for case in manifest] == [splits[case.group] for case in manifest]
