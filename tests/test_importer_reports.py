"""Reports at import, by one rule in every importer: documents, placeholders, encodings, ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.check.quick import read_leniently
from voxella.data.report_map import read_report_map
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella_importers.ccella.plugin import ccella
from voxella_importers.picai.plugin import picai
from voxella_importers.prostate158.plugin import prostate158
from voxella_importers.table.plugin import table

KEEP: dict[str, Any] = {"val_share": 0, "test_share": 0}
SECRET = "Läsion links, größer"
CASES = REPOSITORY.parent / "shared" / "data" / "user_cases"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("a", "1/1_10_t2w", "1/1_11_t2w"):
        write_volume(folder / f"{name}.nii.gz", np.ones((3, 3, 3)), np.eye(4))
    return folder


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(source: Path, *reports: str) -> Path:
    records = [{"id": f"c{n}", "t2w": "a.nii.gz", "report": r} for n, r in enumerate(reports)]
    return write(source / "t.json", json.dumps(records))


def refused(run: Any, *words: str) -> str:  # anything that raises
    with pytest.raises(UserError) as caught:
        run()
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert "sion" not in str(caught.value)
    return str(caught.value)


def test_placeholders_are_no_reports_and_counted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = rows(source, "nan", "None", "N/A", "-", "[]", "{}", SECRET)
    made = table(source=path, **KEEP)(tmp_path / "out")
    assert [case.report is not None for case in made] == [False] * 6 + [True]
    assert "6 reports say nothing" in capsys.readouterr().err


def test_documents_are_refused_in_files_and_in_cells(source: Path, tmp_path: Path) -> None:
    write(source / "r.pdf", "%PDF-1.4 Läsion", "latin-1")
    write(source / "r.txt", "<html><p>Läsion</p></html>")
    files = write(
        source / "f.csv", "id,t2w,report_file\nx,a.nii.gz,r.pdf\ny,a.nii.gz,r.txt\nz,a.nii.gz,no\n"
    )
    refused(
        lambda: table(source=files, **KEEP)(tmp_path / "out"),
        "row 2: its report file is a PDF document and no plain text (pdftotext -layout FILE)",
        "row 3: its report file is HTML",
        "row 4: its report file does not exist",
    )
    cells = rows(source, "{\\rtf1 Läsion}", "<p>Läsion</p>", "reports/Läsion.txt", SECRET)
    refused(
        lambda: table(source=cells, **KEEP)(tmp_path / "out"),
        "row 1: its report is an RTF document",
        "row 2: its report is HTML",
        "row 3: its report is the name of a file",
    )


def test_the_ccella_lists_are_held_to_the_same_rules(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lists(*texts: str) -> Path:
        entries = [
            {"folder": f"p{n}", "axt2": "a.nii.gz", "pirads": [1, 0], "text": text}
            for n, text in enumerate(texts)
        ]
        # Saved by a Windows editor
        return write(source / "train.json", json.dumps(entries), "utf-8-sig")

    path = lists("nan", SECRET)
    made = ccella(source=path, images=source, **KEEP)(tmp_path / "out")
    assert [case.report for case in made] == [None, "reports/p1.txt"]
    assert "1 reports say nothing" in capsys.readouterr().err
    path = lists("{\\rtf1 Läsion}")
    refused(
        lambda: ccella(source=path, images=source, **KEEP)(tmp_path / "no"),
        "train.json, entry 1: its text is an RTF document",
    )


@pytest.mark.parametrize("encoding", ["windows-1251", "gb18030", "latin-1", "iso8859_2"])
def test_every_importer_asks_for_the_encoding_and_takes_it(
    source: Path, tmp_path: Path, encoding: str
) -> None:
    text = {
        "windows-1251": "Очаг слева",
        "gb18030": "前列腺左侧外周带见结节",
        "latin-1": "Läsion links größer",
        "iso8859_2": "podejrzenie świeżego ogniska",
    }[encoding]
    path = write(source / "t.csv", f"id,t2w,report\na,a.nii.gz,{text}\n", encoding)
    refused(lambda: table(source=path, **KEEP)(tmp_path / "a"), "is not UTF-8", "encoding=NAME")
    made = table(source=path, encoding=encoding, **KEEP)(tmp_path / "a")
    assert (tmp_path / "a" / "reports" / "a.txt").read_text(encoding="utf-8") == text
    assert made.cases[0].extra["report_encoding"] == f"inline, {encoding}"

    (source / "texts").mkdir()
    write(source / "texts" / "1_10.txt", text, encoding)
    write(source / "texts" / "1_11.TXT", text)  # UTF-8 beside it stays what it is
    given: dict[str, Any] = {"source": source, "reports": source / "texts", **KEEP}
    refused(lambda: picai(**given)(tmp_path / "b"), "case 1_10: its report file is not UTF-8")
    made = picai(encoding=encoding, **given)(tmp_path / "b")
    assert [made.read_report(case) for case in made] == [text, text]

    entries = [{"folder": "p", "axt2": "a.nii.gz", "pirads": [1, 0], "text": text}]
    path = write(source / "train.json", json.dumps(entries, ensure_ascii=False), encoding)
    refused(lambda: ccella(source=path, images=source, **KEEP)(tmp_path / "c"), "is not UTF-8")
    made = ccella(source=path, images=source, encoding=encoding, **KEEP)(tmp_path / "c")
    assert made.read_report(made.cases[0]) == text


def test_encodings_that_nobody_knows_are_told_at_once() -> None:
    for build in (table, picai, ccella, prostate158):
        with pytest.raises(UserError, match="encoding: 'windows' is none that is known"):
            build(source=Path("t"), encoding="windows")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_maps_are_read_with_a_mark(source: Path, encoding: str) -> None:
    path = write(source / "m.json", '{"1_10": "texts\\\\r.txt"}', encoding)
    (source / "texts").mkdir()
    write(source / "texts" / "r.txt", SECRET)
    assert read_report_map(path, None) == [("1_10", source / "texts" / "r.txt")]
    made = picai(source=source, reports_map=path, **KEEP)(source / "out")
    assert [case.report for case in made] == ["reports/1_10.txt", None]


def test_maps_with_an_identifier_twice_are_refused(source: Path) -> None:
    path = write(source / "m.json", '{"x": "a.txt", "y": "b.txt", "x": "c.txt"}')
    refused(lambda: read_report_map(path, None), "identifiers of entries 1 and 3 are the same")
    path = write(source / "m.json", '{"x": "a.txt", "x ": "b.txt"}')
    refused(lambda: read_report_map(path, None), "identifiers of entries 1 and 2 are the same")
    path = write(source / "m.csv", "id,report\nx,a.txt\nx,b.txt\n")
    refused(lambda: read_report_map(path, None), "identifiers of entries 1 and 2 are the same")


def test_splits_are_read_with_a_mark(source: Path, tmp_path: Path) -> None:
    path = write(source / "splits.json", '[{"train": ["1_10"], "val": ["1_11"]}]', "utf-8-sig")
    made = picai(source=source, splits=path)(tmp_path / "out")
    assert [case.split for case in made] == ["train", "val"]


def test_documents_beside_reports_are_counted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "texts").mkdir()
    for name in ("1_10.pdf", "1_11.docx"):
        write(source / "texts" / name, "%PDF-")
    picai(source=source, reports=source / "texts", **KEEP)(tmp_path / "out")
    assert "reports: 2 files are no .txt and are not read" in capsys.readouterr().err


@pytest.mark.parametrize("unseen", ["\u2028", "\x85", "\u200b", "\u00ad", "\x1c"])
def test_ids_with_characters_that_cannot_be_seen_are_refused(
    source: Path, tmp_path: Path, unseen: str
) -> None:
    path = write(source / "t.csv", f"id,patient,t2w\na,P{unseen}1,a.nii.gz\n")
    message = refused(
        lambda: table(source=path, **KEEP)(tmp_path / "out"),
        f"row 2: its group holds a character that cannot be seen (U+{ord(unseen):04X})",
    )
    assert unseen not in message


def test_ids_that_a_spreadsheet_has_rounded_are_refused(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", "id,patient,t2w\na,1.23E+15,a.nii.gz\n")
    refused(lambda: table(source=path, **KEEP)(tmp_path / "out"), "row 2: its group is a number")


def test_a_manifest_with_line_separators_reads_back(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", "patient": "P\u2028 1\x85", "images": {}}, ensure_ascii=False)
    write(tmp_path / "manifest.jsonl", f"{line}\r\n", "utf-8-sig")
    (case,) = Manifest.read(tmp_path)
    assert case.group == "P\u2028 1\x85"
    found, findings = read_leniently(tmp_path)
    assert (found.cases, findings) == ([case], [])


def test_patients_who_may_be_one_are_told(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(
        source / "t.csv",
        "id,patient,split,t2w\na,P007,train,a.nii.gz\nb,p7,test,a.nii.gz\nc,P8,train,a.nii.gz\n",
    )
    table(source=path)(tmp_path / "out")
    told = capsys.readouterr().err
    assert "cases a, b have 2 patients whose ids differ only in letter case, padding" in told
    assert "in the splits test, train" in told
    assert "P007" not in told


def test_cases_that_differ_in_letter_case_only_are_refused(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", "id,t2w\nAb,a.nii.gz\naB,a.nii.gz\n")
    refused(
        lambda: table(source=path, **KEEP)(tmp_path / "out"),
        "cases Ab and aB differ in letter case only",
    )


def test_cells_that_say_there_is_nothing_are_empty(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What pandas and databases write for empty cells makes no patient, label, file or value."""
    lines = ["id,patient,t2w,label,report_file,psa", "a,nan,a.nii.gz,N/A,None,NaN"]
    lines += ["b,nan,a.nii.gz,positive,NULL,5.1", "c,P1,a.nii.gz,nan,,<NA>"]
    path = write(source / "t.csv", "\n".join(lines))
    made = table(source=path, extra=["psa"], **KEEP)(tmp_path / "out")
    assert [(c.group, c.label, c.report, c.extra.get("psa")) for c in made] == [
        ("a", None, None, None), ("b", "positive", None, 5.1), ("P1", None, None, None),
    ]  # fmt: skip
    assert "2 rows name no group (nan, N/A, - or the like)" in capsys.readouterr().err
    # Where the user gives such a word a meaning, it has that meaning.
    path = write(source / "t.csv", "id,t2w,label\na,a.nii.gz,-\nb,a.nii.gz,none\n")
    given: dict[str, Any] = {"labels": {"-": "none"}, "classes": ["none", "some"], **KEEP}
    assert [c.label for c in table(source=path, **given)(tmp_path / "two")] == ["none", "none"]


def test_file_names_in_another_unicode_form_are_found(source: Path, tmp_path: Path) -> None:
    (source / "a.nii.gz").rename(source / "Mu\u0308ller.nii.gz")
    path = write(source / "t.csv", "id,t2w\na,M\u00fcller.nii.gz\n")
    (case,) = table(source=path, **KEEP)(tmp_path / "out")
    assert case.images["t2w"].endswith("Mu\u0308ller.nii.gz")


@pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is absent")
def test_what_users_brought(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = table(source=CASES / "07-placeholder-report" / "t.csv", **KEEP)(tmp_path / "07")
    assert sum(case.report is not None for case in made) == 1
    for path in sorted((CASES / "08-other-encodings").glob("*.csv")):
        refused(lambda path=path: table(source=path, **KEEP)(tmp_path / path.stem), "is not UTF-8")
    refused(
        lambda: table(source=CASES / "10-document-as-report" / "t.csv", **KEEP)(tmp_path / "10"),
        "row 2: its report file is a PDF",
        "row 3: its report file is an RTF",
        "row 4: its report file is HTML",
    )
    refused(
        lambda: table(source=CASES / "13-line-separator-in-patient" / "t.csv")(tmp_path / "13"),
        "row 2: its group holds a character that cannot be seen (U+2028)",
        "row 3: its group holds a character that cannot be seen (U+0085)",
    )
    capsys.readouterr()
    workbook = CASES / "16-excel-hidden-rows" / "t.xlsx"
    assert len(table(source=workbook, **KEEP)(tmp_path / "16")) == 2
    assert "1 rows are hidden" in capsys.readouterr().err
    assert len(table(source=workbook, visible_only=True, **KEEP)(tmp_path / "16b")) == 1
    assert read_report_map(CASES / "18-json-bom" / "map.json", None)[0][0] == "10001_1000001"
