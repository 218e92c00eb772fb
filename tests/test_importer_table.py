"""Importer `table`: encodings, delimiters, every problem at once, and no report text anywhere."""

from __future__ import annotations

import json
import stat
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpyxl import Workbook

from voxella.case import Manifest
from voxella.data.drafts import split_of
from voxella.data.reports import Report
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.imaging.volume import write_volume
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Importer
from voxella_importers.table.plugin import table

SECRET = "Lésion suspecte à gauche; PI-RADS 4"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for name in ("a", "b", "c"):
        write_volume(folder / "img" / f"{name}.nii.gz", np.ones((3, 3, 3)), np.eye(4))
    return folder


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_a_table_becomes_a_data_set(source: Path, tmp_path: Path) -> None:
    (source / "r").mkdir()
    write(source / "r" / "a.txt", SECRET, "latin-1")
    write(source / "r" / "b.txt", SECRET, "utf-16")
    write(source / "r" / "c.txt", " \n")
    text = (
        "Case;Pat;File;ADC;Report;Class;Age;PSA\n"
        "a;1;img/a.nii.gz;img/b.nii.gz;r/a.txt;0;61;5,1\n"
        "b;2;img/b.nii.gz;img/b.nii.gz;r/b.txt;1;70;\n"
        "\n"
        "c;2;img/c.nii.gz;img/b.nii.gz;r/c.txt;;58;12\n"
    )
    importer = table(
        source=write(source / "t.csv", text, "utf-8-sig"),
        columns={
            "id": "Case", "group": "Pat", "t2w": "File", "adc": "ADC",
            "report_file": "Report", "label": "Class",
        },
        sequences=["t2w", "adc"],
        labels={"0": "negative", "1": "positive"},
        extra=["Age", "PSA"],
        encoding="latin-1",
        test_share=0,
        val_share=0,
    )  # fmt: skip
    out = tmp_path / "out"
    importer(out)
    a, b, c = Manifest.read(out)
    assert (a.id, a.group, a.label, a.label_source, a.split) == (
        "a", "1", "negative", "table", "train",
    )  # fmt: skip
    assert (b.label, c.label, c.label_source) == ("positive", None, None)
    assert a.images == {
        "t2w": str((source / "img" / "a.nii.gz").resolve()),
        "adc": str((source / "img" / "b.nii.gz").resolve()),
    }
    assert a.extra == {"Age": 61, "PSA": 5.1, "report_encoding": "latin-1"}
    assert b.extra == {"Age": 70, "report_encoding": "utf-16"}
    assert c.report is None
    assert (out / "reports" / "a.txt").read_text(encoding="utf-8") == SECRET
    assert a.report_sha256 == sha256_file(out / "reports" / "a.txt")
    for report in (out / "reports").iterdir():
        assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert "suspecte" not in (out / "manifest.jsonl").read_text()
    assert not (out / "images").exists()


def test_conditions_come_from_columns_by_our_names(source: Path, tmp_path: Path) -> None:
    text = "id;t2w;AGE;PSA ng/ml;Scanner\na;img/a.nii.gz;61;5,1;Skyra\nb;img/b.nii.gz;;n/a;1.5\n"
    settings: dict[str, Any] = {
        "source": write(source / "t.csv", text),
        "conditions": {"age": "AGE", "psa": "PSA ng/ml", "scanner": "Scanner"},
        "val_share": 0,
        "test_share": 0,
    }
    table(**settings)(tmp_path / "out")
    a, b = Manifest.read(tmp_path / "out")
    assert a.conditions == {"age": 61.0, "psa": 5.1, "scanner": "Skyra"}
    assert b.conditions == {"scanner": 1.5}
    assert a.extra == {}
    absent = table(**{**settings, "conditions": {"age": "Alter"}})
    refused(absent, tmp_path / "absent", "no column Alter")
    write(source / "t.csv", f'id;t2w;AGE\na;img/a.nii.gz;"{SECRET}"\n')
    wrong = table(**{**settings, "conditions": {"age": "AGE"}})
    refused(wrong, tmp_path / "wrong", "row 2: AGE is longer than 32 characters or more than one")
    with pytest.raises(UserError, match="conditions: a name that has"):
        table(**{**settings, "conditions": {SECRET: "AGE"}})


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_inline_reports_with_commas_quotes_and_line_ends(
    source: Path, tmp_path: Path, delimiter: str, encoding: str
) -> None:
    report = 'é, "quoted"; one | two\r\nthird\tline'
    cell = '"' + report.replace('"', '""') + '"'
    row = delimiter.join(["a", "img/a.nii.gz", cell])
    text = delimiter.join(["id", "t2w", "report"]) + "\r\n" + row + "\r\n"
    path = write(source / "t.csv", text, encoding)
    told = encoding if encoding == "latin-1" else None
    importer = table(source=path, encoding=told, val_share=0, test_share=0)
    manifest = importer(tmp_path / "out")
    assert manifest.read_report(manifest.cases[0]).replace("\r\n", "\n") == report.replace(
        "\r\n", "\n"
    )
    assert manifest.cases[0].extra["report_encoding"].startswith("inline, ")


@pytest.mark.parametrize("name", ["t.jsonl", "t.json"])
def test_json(source: Path, tmp_path: Path, name: str) -> None:
    records = [
        {"id": "a", "t2w": "img/a.nii.gz", "label": 0, "report": "x\u2028y", "split": "train"},
        {"id": "b", "t2w": "img/b.nii.gz", "label": None, "report": None, "split": "Validation"},
    ]
    lines = "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path = write(source / name, lines if name == "t.jsonl" else json.dumps(records))
    manifest = table(source=path, labels={"0": "negative"})(tmp_path / "out")
    assert [case.label for case in manifest] == ["negative", None]
    assert [case.split for case in manifest] == ["train", "val"]
    assert manifest.read_report(manifest.cases[0]) == "x\u2028y"
    assert manifest.cases[1].report is None


def test_copied_images_stay_readable_without_the_source(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", "id,t2w\na,img/a.nii.gz\n")
    manifest = table(source=path, copy=True, val_share=0, test_share=0)(tmp_path / "out")
    assert manifest.cases[0].images == {"t2w": "images/a_t2w.nii.gz"}
    copied = manifest.image_path(manifest.cases[0], "t2w")
    assert copied.read_bytes() == (source / "img" / "a.nii.gz").read_bytes()


def test_splits_keep_patients_together_and_do_not_depend_on_others() -> None:
    shares: dict[str, Any] = {"val_share": 0.1, "test_share": 0.2}
    splits = [split_of(f"p{n}", seed=3, **shares) for n in range(4000)]
    assert splits.count("val") == pytest.approx(400, abs=60)
    assert splits.count("test") == pytest.approx(800, abs=80)
    other = [split_of(f"p{n}", seed=4, **shares) for n in range(4000)]
    assert splits != other
    # Pinned: a change would move patients between the splits of existing data sets.
    assert [split_of(f"p{n}", seed=0, **shares) for n in range(8)] == [
        "train", "train", "test", "train", "train", "train", "train", "val",
    ]  # fmt: skip


def refused(importer: Importer, out: Path, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        importer(out)
    for word in words:
        assert word in str(caught.value)
    assert "suspecte" not in str(caught.value)
    assert not (out / "manifest.jsonl").exists()
    return str(caught.value)


def test_all_problems_of_all_rows_are_named_at_once(source: Path, tmp_path: Path) -> None:
    (source / "img" / "lfs.mha").write_text("version https://git-lfs.github.com/spec/v1\n")
    text = (
        "id,patient,split,t2w,label,report,report_file\n"
        "a,1,train,img/a.nii.gz,maybe,,\n"
        "a,1,train,img/a.nii.gz,,,\n"
        ",1,train,img/a.nii.gz,,,\n"
        "d/e,1,train,img/a.nii.gz,,,\n"
        "f,1,test,img/none.nii.gz,,,\n"
        "g,2,sometimes,img/lfs.mha,,,\n"
        f"h,3,train,,{SECRET},{SECRET},nowhere.txt\n"
        f"i,4,train,{SECRET},,,{SECRET}\n"
    )
    message = refused(
        table(source=write(source / "t.csv", text)),
        tmp_path / "out",
        "row 2: label 'maybe' is none of negative, positive",
        "row 3: id a stands in row 2 already",
        "row 4: no id",
        "row 5: an id is letters, digits",
        "row 6: t2w: ",
        "none.nii.gz: no such file",
        "row 7: t2w: ",
        "Git-LFS pointer",
        "git lfs pull",
        "row 7: its split is none of train",
        "row 8: no t2w image",
        "row 8: a report and a report_file",
        "row 8: label is none of",
        "row 8: its report file does not exist",
        "row 9: t2w does not name an image file",
        "row 9: its report file does not exist",
        "one group in train and test",
        "nothing was written",
    )
    assert message.count("row 8") == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the table is empty"),
        ("id,t2w\n", "columns but no row"),
        ("id,image\na,b\n", "no column t2w\n  expected: id, image"),
        ("id,t2w,id\na,b,c\n", "columns are duplicated: id"),
        ("id,t2w\na,b,c\nd\n", "row 2: 3 cells under 2 columns"),
        ('id,t2w\na,"open\n', "not CSV"),
        (
            f"1,{SECRET} {SECRET}\n2,{SECRET}\n",
            "its first row is no header with any of the columns looked for",
        ),
    ],
)
def test_tables_that_cannot_be_read_are_named(
    source: Path, tmp_path: Path, text: str, words: str
) -> None:
    message = refused(table(source=write(source / "t.csv", text)), tmp_path / "out", words)
    assert "t.csv" in message


def test_json_that_cannot_be_read_is_named(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = source / "t.jsonl"
    refused(table(source=write(path, f'{{"id": 1}}\n{SECRET}\n')), out, "line 2: not JSON")
    refused(table(source=write(path, '[1]\n{"id": {"a": 1}}\n')), out, "entry 1: not an object",
            "entry 2: a list or object in id")  # fmt: skip
    refused(table(source=write(source / "t.json", "{}")), out, "not a list of objects")
    refused(table(source=tmp_path / "none.csv"), out, "none.csv: cannot be read")


def test_free_text_is_not_kept_as_an_extra(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", f"id;t2w;note\na;img/a.nii.gz;{SECRET} {SECRET}\n".replace(
        "; PI", " PI"))  # fmt: skip
    refused(table(source=path, extra=["note"]), tmp_path / "out", "row 2: note is longer than 32")


def test_reports_of_the_source_are_never_overwritten(source: Path) -> None:
    (source / "reports").mkdir()
    original = write(source / "reports" / "a.txt", SECRET, "latin-1").read_bytes()
    path = write(source / "t.csv", "id,t2w,report_file\na,img/a.nii.gz,reports/a.txt\n")
    refused(table(source=path), source, "row 2: its report file lies where", "another --out")
    assert (source / "reports" / "a.txt").read_bytes() == original


def test_settings_are_checked_together() -> None:
    with pytest.raises(UserError) as caught:
        table(source=Path("t.csv"), columns={"t1": "x"}, labels={"0": "no"}, val_share=0.9)
    for word in ("'t1' is none of id", "'no' is none of the classes", "val_share 0.9"):
        assert word in str(caught.value)


def test_a_split_without_training_cases_is_named(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", "id,t2w,split\na,img/a.nii.gz,test\n")
    refused(table(source=path), tmp_path / "out", "none of the 1 cases falls into the split train")


def test_a_report_never_shows_itself() -> None:
    assert repr(Report(SECRET, "utf-8")) == f"Report({len(SECRET)} characters, utf-8)"


def test_the_plugin_is_found_by_name(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", "id,t2w\na,img/a.nii.gz\n")
    block = Component(name="table", source=path, val_share=0, test_share=0)
    assert len(registry.build("importers", block)(tmp_path / "out")) == 1


def test_a_workbook_becomes_a_data_set(source: Path, tmp_path: Path) -> None:
    book = Workbook()
    page = book.create_sheet("studies", 0)
    page.append(["Case", "Patient", "File", "Report", "PSA", "Day"])
    page.append([1.0, 7, "img\\a.nii.gz", f"{SECRET}\nzweite Zeile", 5.1, date(2021, 3, 4)])
    page.append([2.0, None, "img\\b.nii.gz", None, None, None])
    page.merge_cells("B2:B3")
    book.create_sheet("notes").append(["not this one"])
    book.save(source / "t.xlsx")
    columns = {"id": "Case", "patient": "Patient", "t2w": "File", "report": "Report"}
    settings: dict[str, Any] = {"extra": ["PSA", "Day"], "val_share": 0, "test_share": 0}
    with pytest.raises(UserError, match=r"2 sheets have something.*\n.*studies, notes"):
        table(source=source / "t.xlsx", columns=columns, **settings)(tmp_path / "out")
    manifest = table(source=source / "t.xlsx", columns=columns, sheet="studies", **settings)(
        tmp_path / "out"
    )
    assert [(case.id, case.group) for case in manifest] == [("1", "7"), ("2", "7")]
    assert manifest.cases[0].extra == {
        "PSA": 5.1, "Day": "2021-03-04", "report_encoding": "inline, xlsx",
    }  # fmt: skip
    assert manifest.read_report(manifest.cases[0]) == f"{SECRET}\nzweite Zeile"
    assert manifest.cases[1].images == {"t2w": str((source / "img" / "b.nii.gz").resolve())}
    assert "suspecte" not in (tmp_path / "out" / "manifest.jsonl").read_text()


def test_many_absent_images_are_one_problem(source: Path, tmp_path: Path) -> None:
    rows = "\n".join(f"c{number},img/none{number}.nii.gz" for number in range(500))
    path = write(source / "t.csv", f"id,t2w\nok,img/a.nii.gz\n{rows}\n")
    message = refused(
        table(source=path),
        tmp_path / "out",
        "t2w: no such file in 500 of 501 rows (3-502), the first ",
        "none0.nii.gz",
    )
    assert len(message.splitlines()) == 3


def test_names_that_no_file_can_have_are_absent(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", f"id,t2w\na,{'x' * 400}.nii.gz\n")
    refused(table(source=path), tmp_path / "out", "row 2: t2w: ", "no such file")


def test_few_cases_of_which_none_is_trained_on_say_how(source: Path, tmp_path: Path) -> None:
    path = write(source / "t.csv", "id,t2w,patient\na,img/a.nii.gz,p2\nb,img/b.nii.gz,p7\n")
    # p2 and p7 are drawn for test and val, see the splits above.
    refused(table(source=path, val_share=0.1, test_share=0.2), tmp_path / "out",
            "none of the 2 cases", "--set val_share=0 --set test_share=0")  # fmt: skip


def grouped(source: Path, header: str, **settings: Any) -> list[tuple[str, str]]:
    text = f"{header}\na,1,x,img/a.nii.gz\nb,1,y,img/b.nii.gz\nc,2,y,img/c.nii.gz\n"
    importer = table(source=write(source / "t.csv", text), val_share=0, test_share=0, **settings)
    return [(case.id, case.group) for case in importer(source / "out")]


def test_cases_belong_together_by_group(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_first = [("a", "1"), ("b", "1"), ("c", "2")]
    assert grouped(source, "id,group,arm,t2w") == by_first
    assert grouped(source, "id,slide,arm,t2w", columns={"group": "slide"}) == by_first
    # A table that says patient itself needs no mapping, and both names can be told apart.
    assert grouped(source, "id,patient,arm,t2w") == by_first
    assert grouped(source, "id,patient,group,t2w", columns={"group": "patient"}) == by_first
    assert "patient" not in capsys.readouterr().err
    assert grouped(source, "id,Pat,arm,t2w", columns={"patient": "Pat"}) == by_first
    assert "columns: patient is called group now" in capsys.readouterr().err


def test_a_group_that_may_be_either_column_is_refused(source: Path) -> None:
    with pytest.raises(UserError, match="columns group and patient; which of them") as caught:
        grouped(source, "id,patient,group,t2w")
    assert "columns={group: patient}" in str(caught.value)
    with pytest.raises(UserError, match="both are given"):
        grouped(source, "id,p,g,t2w", columns={"patient": "p", "group": "g"})
