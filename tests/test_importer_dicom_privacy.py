"""Importer `dicom`: nothing that names a person leaves the source, and hashes need a key."""

from __future__ import annotations

import gzip
import logging
import stat
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
from dicom_writer import image, item, save, write_series

from voxella.case import Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella_importers.dicom.identity import KEY_FILE, Identity, load_identity
from voxella_importers.dicom.plugin import dicom

# Everything planted has one of these in it.
TRACES = ("ZEBRA", "7731", "19610307", "1961")
PLANTED = {
    "PatientName": "ZEBRA^Piet",
    "PatientID": "ZEBRA-7731",
    "OtherPatientIDs": "7731",
    "PatientBirthDate": "19610307",
    "PatientAddress": "ZEBRA street 7731",
    "PatientComments": "wife of ZEBRA",
    "AccessionNumber": "A7731",
    "StudyID": "7731",
    "StudyDate": "19610307",
    "SeriesDate": "19610307",
    "AcquisitionDateTime": "19610307120000",
    "ContentTime": "193107.7731",
    "StudyDescription": "MR ZEBRA",
    "SeriesDescription": "t2_tse_tra ZEBRA 7731",
    "ProtocolName": "ZEBRA",
    "ImageComments": "ZEBRA",
    "InstitutionName": "ZEBRA clinic",
    "StationName": "ZEBRA1",
    "DeviceSerialNumber": "7731",
    "ReferringPhysicianName": "ZEBRA^Doctor",
    "OperatorsName": "ZEBRA^Operator",
    "RequestedProcedureDescription": "ZEBRA",
    "StudyInstanceUID": "1.2.7731.1",
    "SeriesInstanceUID": "1.2.7731.2",
    "FrameOfReferenceUID": "1.2.7731.3",
}


def planted(folder: Path, *, skip: int | None = None, **fields: Any) -> None:
    """A series with traces in the header, beside it, before it and in its names."""
    for index in range(5):
        own = {**PLANTED, "SOPInstanceUID": f"1.2.7731.9.{index}", **fields}
        own["RequestAttributesSequence"] = item(RequestedProcedureID="ZEBRA7731")
        dataset = image(index, **own)
        dataset.private_block(0x29, "ZEBRA HEADER", create=True).add_new(0x10, "LO", "ZEBRA")
        dataset.preamble = b"ZEBRA 7731".ljust(128, b"\0")
        dataset.add_new(0xFFFCFFFC, "OB", b"ZEBRA 7731")
        if index != skip:
            save(folder / "ZEBRA_7731" / "1961-03-07" / f"ZEBRA.{index}.dcm", dataset)


def assert_no_trace(folder: Path, *said: str) -> None:
    """No file's name, content or unpacked content, nor anything said, has a trace."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".gz" for path in files)
    for path in files:
        data = path.read_bytes()
        unpacked = gzip.decompress(data) if path.suffix == ".gz" else b""
        for text in (str(path.relative_to(folder)).encode(), data, unpacked):
            # Pixels could spell digits by chance; they are small numbers here and do not.
            assert [trace for trace in TRACES if trace.encode() in text.upper()] == [], path
    for words in said:
        assert [trace for trace in TRACES if trace in words.upper()] == []


def test_nothing_that_names_a_person_is_written_or_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    planted(tmp_path / "in", PatientAge="061Y")
    (tmp_path / "labels.csv").write_text("id,label\nA7731,positive\nZEBRA,negative\n")
    (tmp_path / "map.json").write_text('{"A7731": "r.txt", "ZEBRA": "ZEBRA.txt"}')
    (tmp_path / "r.txt").write_text("No lesion.")
    words = [
        *("import", "dicom", str(tmp_path / "in"), "--out", str(tmp_path / "made" / "out")),
        *("--set", f"labels={tmp_path / 'labels.csv'}"),
        *("--set", f"reports_map={tmp_path / 'map.json'}"),
        *("--set", "keep=[PatientAge, Manufacturer, EchoTime, PixelSpacing]"),
        *("--set", "val_share=0", "--set", "test_share=0"),
    ]
    assert main(words) == 0
    (case,) = Manifest.read(tmp_path / "made" / "out")
    assert (case.label, case.report) == ("positive", f"reports/{case.id}.txt")
    assert case.extra == {
        "PatientAge": "061Y",
        "Manufacturer": "MAKER",
        "PixelSpacing": [0.7, 0.5],
        "report_encoding": "utf-8",
    }
    said = capfd.readouterr()
    assert "1 cases in" in said.out
    assert_no_trace(tmp_path / "made", said.out, said.err, caplog.text)
    # A NIfTI's header holds geometry: its fields for text are empty.
    header = nib.load(tmp_path / "made" / "out" / case.images["t2w"]).header
    texts = ("descrip", "aux_file", "intent_name", "db_name")
    assert [header[name].tobytes().strip(b"\0") for name in texts] == [b"", b"", b"", b""]
    assert len(header.extensions) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"skip": 2},
        {"Modality": "ZEBRA"},
        {"ImageOrientationPatient": ["1", "0", "0", "0", "0", "1"]},
        {"SeriesDescription": "ZEBRA 7731"},
        {"ImagePositionPatient": None},
        {"PhotometricInterpretation": "ZEBRA"},
        # Values that pydicom warns of, quoting them.
        {"PatientBirthDate": "ZEBRA", "StudyInstanceUID": "1.ZEBRA", "Modality": "ZEBRA ZEBRA 77"},
        {"SpecificCharacterSet": "ZEBRA"},
    ],
)
def test_refusals_name_no_person(
    tmp_path: Path,
    fields: dict[str, Any],
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writer; the importer's would be seen below
        planted(tmp_path / "in", **fields)
        folder = tmp_path / "in" / "ZEBRA_7731" / "1961-03-07"
        (folder / "ZEBRA 7731.dcm").write_bytes(b"ZEBRA 7731" * 99)
        whole = (folder / "ZEBRA.1.dcm").read_bytes()
        (folder / "ZEBRA.6.dcm").write_bytes(whole[: len(whole) // 2])
    capfd.readouterr()
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert main(["import", "dicom", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    said = capfd.readouterr()
    also = caplog.text + "".join(str(warning.message) for warning in warned)
    assert "study s" in said.err or "files that cannot be read" in said.err
    assert [trace for trace in TRACES if trace in (said.out + said.err + also).upper()] == []
    assert not (tmp_path / "out").exists()


def test_an_exception_holds_no_identifier_either(tmp_path: Path) -> None:
    """A traceback would show the exceptions that a refusal came from."""
    numbers = ("EchoTime", "SeriesNumber", "SliceThickness", "InstanceNumber", "PixelSpacing")
    spoilt: dict[str, Any] = dict.fromkeys(numbers, "77777")
    planted(tmp_path / "in", **spoilt)
    # Text where numbers belong, which pydicom does not write.
    for path in (tmp_path / "in").rglob("*.dcm"):
        path.write_bytes(path.read_bytes().replace(b"77777", b"ZEBRA"))
    with pytest.raises(UserError) as caught:
        dicom(source=tmp_path / "in")(tmp_path / "out")
    error: BaseException | None = caught.value
    while error is not None:
        assert "ZEBRA" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_the_key_is_made_once_and_lies_beside_the_data_set(tmp_path: Path) -> None:
    write_series(tmp_path / "in")
    first = dicom(source=tmp_path / "in", val_share=0, test_share=0)(tmp_path / "a")
    key = tmp_path / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(key.read_text())) == 32
    assert not list((tmp_path / "a").rglob(f"*{KEY_FILE}*"))
    # Another data set of the same folder, or one that is given the key: the same hashes.
    made = key.read_bytes()
    second = dicom(source=tmp_path / "in", val_share=0, test_share=0)(tmp_path / "b")
    third = dicom(source=tmp_path / "in", val_share=0, test_share=0, key_file=key)(
        tmp_path / "elsewhere" / "c"
    )
    assert key.read_bytes() == made
    assert [case.id for case in first] == [case.id for case in second] == [c.id for c in third]
    # Another key: others.
    other = dicom(source=tmp_path / "in", val_share=0, test_share=0)(tmp_path / "far" / "d")
    assert other.cases[0].id != first.cases[0].id
    assert other.cases[0].group != first.cases[0].group


def test_no_key_is_made_of_what_is_not_imported(tmp_path: Path) -> None:
    """Looked at first, written then: a wrong folder leaves nothing behind."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("none")
    write_series(tmp_path / "bad", SeriesDescription="localizer")
    for source in ("absent", "text", "bad"):
        with pytest.raises(UserError):
            dicom(source=tmp_path / source)(tmp_path / "data" / "out")
        assert not (tmp_path / "data").exists()


def test_a_key_that_another_import_makes_meanwhile_is_never_replaced(tmp_path: Path) -> None:
    ours, theirs = (load_identity(None, tmp_path / name) for name in ("a", "b"))
    theirs.keep()
    before = (tmp_path / KEY_FILE).read_bytes()
    with pytest.raises(UserError, match="another import has made the key"):
        ours.keep()
    assert (tmp_path / KEY_FILE).read_bytes() == before
    again = load_identity(None, tmp_path / "a")
    again.keep()
    assert again.patient("4711") == theirs.patient("4711") != ours.patient("4711")


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "in")
    for content, words in ((None, "cannot be read"), ("short\n", "holds no key")):
        path = tmp_path / "key"
        if content is not None:
            path.write_text(content)
        with pytest.raises(UserError, match=words):
            dicom(source=tmp_path / "in", key_file=path)(tmp_path / "out")
    inside = tmp_path / "out" / "key"
    with pytest.raises(UserError, match="lies in the data set, which may be passed on"):
        dicom(source=tmp_path / "in", key_file=inside)(tmp_path / "out")


def test_a_key_that_others_can_read_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "in")
    (tmp_path / KEY_FILE).write_text("ab" * 32)
    (tmp_path / KEY_FILE).chmod(0o644)
    dicom(source=tmp_path / "in", val_share=0, test_share=0)(tmp_path / "out")
    assert "can be read by others" in capsys.readouterr().err


def test_hashes_are_hmac_sha_256() -> None:
    """RFC 4231, test case 2, by way of the digest's own form of message."""
    import hmac

    key = b"Jefe" * 8
    known = hmac.digest(key, b"patient:4711", "sha256").hex()
    assert Identity(key).digest("patient", " 4711\0") == known
    assert Identity(key).patient("4711") == f"p{known[:12]}"
    assert Identity(key).case("4711")[1:] != known[:12]


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("PatientAge", "093Y", "090Y+"),
        ("PatientAge", "089Y", "089Y"),
        ("PatientAge", "Zebra", None),
        ("MagneticFieldStrength", "3", 3),
        ("EchoTime", "101.5", 101.5),
        ("PatientSex", "M", "M"),
        ("BodyPartExamined", "of Mrs Zebra", None),
        ("ImageType", ["ORIGINAL", "PRIMARY"], "ORIGINAL\\PRIMARY"),
        ("ManufacturerModelName", "Skyra", "Skyra"),
        ("ManufacturerModelName", "Skyra" * 10, None),
    ],
)
def test_what_is_kept_is_of_its_kind(
    tmp_path: Path, keyword: str, value: Any, kept: object
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path / "in", **{keyword: value})
    (case,) = dicom(source=tmp_path / "in", val_share=0, test_share=0, keep=[keyword])(
        tmp_path / "out"
    )
    assert case.extra == ({} if kept is None else {keyword: kept})


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("PatientAge", "063Y", 63),
        ("PatientAge", "093Y", 90),
        ("PatientAge", "018M", 1.5),
        ("PatientAge", "Zebra", None),
        ("PatientSex", "M", "M"),
        ("MagneticFieldStrength", "3", 3),
        ("MagneticFieldStrength", "1.5", 1.5),
        ("Manufacturer", "SIEMENS", "SIEMENS"),
        ("BodyPartExamined", "of Mrs Zebra", None),
        ("PixelSpacing", ["0.5", "0.5"], None),
        ("EchoTime", None, None),
    ],
)
def test_conditions_are_the_fields_that_are_asked_for(
    tmp_path: Path, keyword: str, value: Any, told: object
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_series(tmp_path / "in", **{"PatientWeight": "81", keyword: value})
    given: dict[str, Any] = {"source": tmp_path / "in", "val_share": 0, "test_share": 0}
    dicom(**given, conditions={"asked": keyword}, keep=["EchoTime"])(tmp_path / "out")
    (case,) = Manifest.read(tmp_path / "out")
    assert case.conditions == ({} if told is None else {"asked": told})
    # What is asked for as a condition is kept as nothing else.
    assert case.extra == {}


def test_fields_that_identify_are_no_condition(tmp_path: Path) -> None:
    for keyword in ("PatientName", "PatientBirthDate", "StudyDescription", "OtherStudyNumbers"):
        with pytest.raises(UserError, match=f"conditions: {keyword} .* may identify a person"):
            dicom(source=tmp_path, conditions={"asked": keyword})
    with pytest.raises(UserError, match="conditions: 'Ages' is no DICOM keyword"):
        dicom(source=tmp_path, conditions={"age": "Ages"})


def test_patients_who_may_be_one_are_told_by_their_studies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for study, patient in {"a": "ZEBRA-007", "b": "zebra 7", "c": "ZEBRA-70"}.items():
        write_series(tmp_path / "in", study=study, PatientID=patient)
    manifest = dicom(source=tmp_path / "in", val_share=0, test_share=0)(tmp_path / "out")
    told = capsys.readouterr().err
    (line,) = (line for line in told.splitlines() if "differ only in letter case" in line)
    named = [case.id for case in manifest if case.id in line]
    assert len({case.group for case in manifest}) == 3
    assert len(named) == 2
    assert "zebra" not in told.lower()


def test_studies_without_a_patient_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for study, patient in {"a": None, "b": "N/A"}.items():
        write_series(tmp_path / "in", study=study, PatientID=patient)
    manifest = dicom(source=tmp_path / "in", val_share=0, test_share=0)(tmp_path / "out")
    assert len({case.group for case in manifest}) == 2
    assert "no PatientID, so each is taken for a patient of its own" in capsys.readouterr().err
