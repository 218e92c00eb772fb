"""Tables as rows of text: what csv, json and openpyxl write is read back, or refused by name."""

from __future__ import annotations

import csv
import datetime
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.styles import Font
from openpyxl.worksheet.worksheet import Worksheet

from voxella.data.rows.read import Table, read_table
from voxella.errors import UserError

SECRET = "Laesie in de perifere zone"
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEWER = settings(FEW, max_examples=12)

# Column names are words; cells are whatever may stand in a file, reports with line ends included.
names = st.lists(
    st.text(st.sampled_from("abcXYZ 09_éß读"), min_size=1, max_size=8).map(str.strip).filter(bool),
    min_size=2,
    max_size=4,
    unique=True,
)
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
latin = st.text(st.characters(codec="cp1252", exclude_characters="\0"), max_size=30)
# XML has no control characters, and openpyxl writes \r as a line feed.
printed = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30
).filter(lambda text: "_x" not in text)


def tables(of: st.SearchStrategy[str]) -> st.SearchStrategy[list[list[str]]]:
    """Lists of lines of equal length, the first of which is the header."""
    return names.flatmap(
        lambda header: st.lists(
            st.lists(of, min_size=len(header), max_size=len(header)), min_size=1, max_size=5
        ).map(lambda lines: [header, *lines])
    )


def told(lines: Sequence[Sequence[str]]) -> list[dict[str, str]]:
    """What a reader owes: stripped cells under their names, without blank rows."""
    stripped = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(stripped[0], line, strict=True)) for line in stripped[1:] if any(line)]


def got(table: Table) -> list[dict[str, str]]:
    return [row.cells for row in table.rows]


def as_csv(lines: Sequence[Sequence[str]], delimiter: str, quoting: int) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]  # any of the QUOTE_ numbers
    writer.writerows(lines)
    return stream.getvalue()


@FEW
@given(
    tables(cells),
    st.sampled_from(",;\t|"),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_what_csv_writes_is_read_back(
    tmp_path: Path, lines: list[list[str]], delimiter: str, quoting: int, encoding: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(as_csv(lines, delimiter, quoting).encode(encoding))
    table = read_table(path, lines[0])
    assert table.columns == lines[0]
    assert got(table) == told(lines)
    assert table.delimiter == delimiter
    assert table.encoding == encoding


@FEW
@given(tables(latin), st.sampled_from(",;\t|"))
def test_windows_text_is_read_back(tmp_path: Path, lines: list[list[str]], delimiter: str) -> None:
    lines = [["id", "t2w", "report", "a"][: len(lines[0])], *lines[1:]]
    data = as_csv(lines, delimiter, csv.QUOTE_MINIMAL).encode("cp1252")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        # Bytes that are UTF-8 as well are taken for that.
        assume(data.isascii())
    (tmp_path / "t.csv").write_bytes(data)
    table = read_table(tmp_path / "t.csv", lines[0], encoding="windows-1252")
    assert got(table) == told(lines)


@FEW
@given(tables(cells), st.booleans(), st.booleans())
def test_what_json_writes_is_read_back(
    tmp_path: Path, lines: list[list[str]], ascii_only: bool, as_lines: bool
) -> None:
    header, *rest = lines
    records = [dict(zip(header, line, strict=True)) for line in rest]
    words = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    path = tmp_path / ("t.jsonl" if as_lines else "t.json")
    path.write_bytes(("\n".join(words) if as_lines else f"[{','.join(words)}]").encode())
    table = read_table(path, header)
    assert table.columns == header
    assert got(table) == [
        {name: cell.strip() for name, cell in record.items()} for record in records
    ]


@FEWER
@given(tables(printed))
def test_what_openpyxl_writes_is_read_back(tmp_path: Path, lines: list[list[str]]) -> None:
    book = Workbook()
    for number, line in enumerate(lines, start=1):
        for column, text in enumerate(line, start=1):
            cell = page(book).cell(number, column, text)
            # A text such as "=a" or "#N/A" stays a text.
            cell.data_type = "s"
    book.save(tmp_path / "t.xlsx")
    kept = [line for line in lines if any(cell.strip() for cell in line)]
    assume(len(kept) > 1)
    table = read_table(tmp_path / "t.xlsx", lines[0])
    assert got(table) == told(lines)
    assert table.encoding == "xlsx"


@FEW
@given(
    st.dictionaries(st.sampled_from("abc"), st.none() | st.integers() | st.booleans(), min_size=1)
)
def test_json_values_are_what_they_look_like(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(record))
    (row,) = read_table(tmp_path / "t.jsonl", "abc").rows
    assert row.cells == {k: "" if v is None else str(v) for k, v in record.items()}


def test_numbers_that_pandas_writes_are_ids_again(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('[{"id": 3.0, "psa": 5.1, "n": NaN, "big": 12345678901.0}]')
    (row,) = read_table(tmp_path / "t.json", ["id"]).rows
    assert row.cells == {"id": "3", "psa": "5.1", "n": "", "big": "12345678901"}


@pytest.mark.parametrize(("name", "place"), [("t.json", "t.json"), ("t.jsonl", "t.jsonl: line 1")])
def test_of_a_json_key_that_stands_twice_neither_value_is_taken(
    tmp_path: Path, name: str, place: str
) -> None:
    record = '{"id": "a", "report": "left", "report": "right"}'
    (tmp_path / name).write_text(record if name.endswith("l") else f"[{record}]")
    with pytest.raises(UserError, match=f"{place}: not JSON.*a key is duplicated") as told_so:
        read_table(tmp_path / name, ["id"])
    assert "left" not in str(told_so.value)
    assert "right" not in str(told_so.value)


def test_excels_own_word_for_the_delimiter_counts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"sep=;\r\nid;a,b\r\n1;2\r\n")
    table = read_table(tmp_path / "t.csv", ["id"])
    assert (table.columns, table.rows[0].number) == (["id", "a,b"], 2)


def page(book: Workbook) -> Worksheet:
    assert isinstance(book.active, Worksheet)
    return book.active


def workbook(path: Path, fill: Callable[[Workbook], None]) -> Path:
    book = Workbook()
    fill(book)
    book.save(path)
    return path


def rows_of(*lines: Sequence[object]) -> Callable[[Workbook], None]:
    def fill(book: Workbook) -> None:
        for line in lines:
            page(book).append(list(line))

    return fill


def test_typed_cells_are_what_the_user_sees(tmp_path: Path) -> None:
    day, noon = datetime.datetime(2021, 3, 4), datetime.datetime(2021, 3, 4, 12, 30)
    header = ("id", "psa", "day", "at", "yes", "none", "text")
    path = workbook(
        tmp_path / "t.xlsx",
        rows_of(header, (3.0, 5.1, day, noon, True, None, "a_x000D_\nb"), (), (1e5, -0.25)),
    )
    first, second = read_table(path, header, numbers=("psa", "day", "at")).rows
    assert first.cells == {
        "id": "3",
        "psa": "5.1",
        "day": "2021-03-04",
        "at": "2021-03-04T12:30:00",
        "yes": "True",
        "none": "",
        "text": "a\r\nb",
    }
    assert (second.number, second.cells["id"], second.cells["psa"]) == (4, "100000", "-0.25")


def test_a_merged_cell_stands_for_all_its_rows(tmp_path: Path) -> None:
    def fill(book: Workbook) -> None:
        rows_of(("patient", "id"), ("p1", "a"), (None, "b"), ("p2", "c"))(book)
        page(book).merge_cells("A2:A3")

    table = read_table(workbook(tmp_path / "t.xlsx", fill), ["id"])
    assert [row.cells["patient"] for row in table.rows] == ["p1", "p1", "p2"]


def test_which_sheet_is_meant_is_asked(tmp_path: Path) -> None:
    def fill(book: Workbook) -> None:
        rows_of(("id",), ("a",))(book)
        book.create_sheet("empty")
        hidden = book.create_sheet("hidden")
        hidden.append(["id"])
        hidden.sheet_state = "hidden"

    path = workbook(tmp_path / "t.xlsx", fill)
    assert got(read_table(path, ["id"])) == [{"id": "a"}]
    book = load_workbook(path)
    book["empty"].append(["id"])
    book["empty"].append(["b"])
    book.save(path)
    with pytest.raises(UserError, match=r"2 sheets have something(.|\n)*Sheet, empty(.|\n)*sheet="):
        read_table(path, ["id"])
    assert got(read_table(path, ["id"], sheet="empty")) == [{"id": "b"}]
    with pytest.raises(UserError, match=r"(?s)no sheet of that name.*--set sheet=NAME"):
        read_table(path, ["id"], sheet="other")


def test_a_sheet_of_what_is_no_workbook(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id\na\n")
    with pytest.raises(UserError, match=r"(?s)no workbook.*leave it out"):
        read_table(tmp_path / "t.csv", ["id"], sheet="other")


def test_a_table_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    for name in ("studies.csv", "studies.xlsx", "labels.json", "report.txt", "zz.csv"):
        (tmp_path / name).write_text("")
    for name in ("studdies.csv", "studdies.xlsx"):
        with pytest.raises(UserError, match=f"{name}: cannot be read") as caught:
            read_table(tmp_path / name, ["id"])
        told = str(caught.value.remedy)
        assert "studies.csv" in told
        assert "studies.xlsx" in told
        # The nearest three, and tables only.
        assert told.count(",") == 2
        assert "report.txt" not in told
    with pytest.raises(UserError, match=f"there is no folder {tmp_path / 'none'}"):
        read_table(tmp_path / "none" / "t.csv", ["id"])
    with pytest.raises(UserError, match=f"Is a directory(?s:.*)ls -ld {tmp_path}"):
        read_table(tmp_path, ["id"])


def rewritten(path: Path, change: Callable[[str], str]) -> Path:
    """The workbook with its first sheet's XML changed."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = change(parts[name].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for part, data in parts.items():
            archive.writestr(part, data)
    return path


def test_formulas_count_by_their_computed_value(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", rows_of(("id", "n"), ("a", "=1+1"), ("b", "=A2")))
    with pytest.raises(UserError) as caught:
        read_table(path, ["id", "n"])
    assert "row 2, column n: a formula that was never computed" in str(caught.value)
    assert "row 3, column n" in str(caught.value)
    # In a column that nobody asked for it does not matter.
    assert [row.cells["id"] for row in read_table(path, ["id"]).rows] == ["a", "b"]
    computed = rewritten(
        path, lambda xml: xml.replace("<v />", "<v>2</v>").replace("<v></v>", "<v>2</v>")
    )
    assert [row.cells["n"] for row in read_table(computed, ["id", "n"]).rows] == ["2", "2"]


def test_cells_that_excel_has_spoilt_are_named(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "t.xlsx", rows_of(("id", "note"), (1234567890123456, SECRET), ("#N/A", SECRET))
    )
    with pytest.raises(UserError) as caught:
        read_table(path, ["id", "note"])
    message = str(caught.value)
    assert "row 2, column id: a number of more than 15 digits" in message
    assert "row 3, column id: an error such as #N/A" in message
    assert SECRET not in message


def test_rows_beyond_a_wrong_dimension_are_read(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", rows_of(("id", "n"), ("a", "1"), ("b", "2")))
    wrong = rewritten(path, lambda xml: xml.replace('ref="A1:B3"', 'ref="A1:A1"'))
    with zipfile.ZipFile(wrong) as archive:
        assert b'ref="A1:A1"' in archive.read("xl/worksheets/sheet1.xml")
    assert got(read_table(wrong, ["id"])) == [{"id": "a", "n": "1"}, {"id": "b", "n": "2"}]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 old", "an old Excel file"),
        ("t.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 locked", "a workbook with a password"),
        ("t.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 renamed", "an old Excel file"),
        ("t.xlsx", f"id;report\n1;{SECRET}".encode(), "called a workbook, and is none"),
        ("t.xls", f"<html>{SECRET}".encode(), "called a workbook, and is none"),
        ("t.xlsx", b"PK\x03\x04 cut short", "truncated"),
        ("t.xlsx", b"", "called a workbook, and is none"),
    ],
)
def test_what_is_no_workbook_is_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        read_table(tmp_path / name, ["id"])
    assert SECRET not in str(caught.value)


def test_another_archive_is_no_workbook_and_a_renamed_workbook_is_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("word/document.xml", SECRET)
    with pytest.raises(UserError, match="damaged or of another kind") as caught:
        read_table(tmp_path / "t.xlsx", ["id"])
    assert SECRET not in str(caught.value)
    path = workbook(tmp_path / "u.xlsx", rows_of(("id",), ("a",))).rename(tmp_path / "u.csv")
    assert got(read_table(path, ["id"])) == [{"id": "a"}]


def test_a_delimiter_is_one_character(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;a\n")
    with pytest.raises(UserError, match="one character, not 2"):
        read_table(tmp_path / "t.csv", ["id"], delimiter=";;")


def formatted(path: Path, cells: Sequence[tuple[Any, str]]) -> Path:
    """A workbook with one column, ``id``, of cells under number formats."""

    def fill(book: Workbook) -> None:
        page(book).append(["id"])
        for number, (value, form) in enumerate(cells, start=2):
            page(book).cell(number, 1, value).number_format = form

    return workbook(path, fill)


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (7, "000000", "000007"),
        (1234567, "000", "1234567"),
        (7, '"P"000', "P007"),
        (7, "\\P\\-0000", "P-0007"),
        (123456789, "000-00-0000", "123-45-6789"),
        (7, "[$-407]00", "07"),
        (7.0, "0", "7"),
        (12345, "#,##0", "12345"),
        (7, "General", "7"),
        (0, "000", "000"),
        (5, "0000_)", "0005"),
        (5, "0000;;", "0005"),
        (5, "0_)", "5"),
        (1234, "# ##0", "1234"),
        (-7, "0", "-7"),
        (0, '000;-000;"none"0', "none0"),
    ],
)
def test_ids_are_what_excel_shows(tmp_path: Path, value: float, form: str, shown: str) -> None:
    # By Excel's rules for number formats (ECMA-376 part 1, 18.8.31): zeros pad, quotes are literal.
    table = read_table(formatted(tmp_path / "t.xlsx", [(value, form)]), ["id"])
    assert got(table) == [{"id": shown}]


@pytest.mark.parametrize(
    ("value", "form", "words"),
    [
        (datetime.date(2024, 4, 3), "d-m", "a date, which Excel may have made of something else"),
        (datetime.time(3, 4), "h:mm", "a date"),
        (0.5, "0%", "a number that its format shows otherwise"),
        (7, ";;;", "a number that its format shows otherwise"),
        (7, "# ?/?", "a number that its format shows otherwise"),
        (5, "0,000", "a number that its format shows otherwise"),  # 0,005
        (7.5, "00000", "a number that its format shows otherwise"),  # 00008
        (-5, "00000", "a number that its format shows otherwise"),  # -00005
        (-5, "0;(0)", "a number that its format shows otherwise"),  # (5)
        (0, "0;-0;", "a number that its format shows otherwise"),  # nothing
        (150, "[<=99]000;0000", "a number that its format shows otherwise"),  # 0150
        ("x" * 32_767, "@", "32767 characters, the most that Excel keeps"),
    ],
)
def test_what_is_shown_otherwise_is_no_id(
    tmp_path: Path, value: object, form: str, words: str
) -> None:
    path = formatted(tmp_path / "t.xlsx", [("a", "@"), (value, form)])
    with pytest.raises(UserError, match=f"row 3, column id: {words}"):
        read_table(path, ["id"])


def test_numbers_that_are_shown_otherwise_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = formatted(tmp_path / "t.xlsx", [(0.5, "0%"), (0.1 + 0.2, "General"), (5.25, "0.0")])
    table = read_table(path, ["id"], numbers=["id"])
    assert [row.cells["id"] for row in table.rows] == ["0.5", "0.3", "5.25"]
    assert "column id: 1 percentages (50% is 0.5)" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_text_that_excel_has_cut_is_named_in_every_format(tmp_path: Path, suffix: str) -> None:
    for length, cut in ((32_766, False), (32_767, True), (32_768, False)):
        report = (SECRET * 2000)[:length]
        path = tmp_path / f"t.{suffix}"
        text = f"id,report,other\na,{report},{'x' * 32767}\n"
        if suffix == "jsonl":
            text = json.dumps({"id": "a", "report": report, "other": "x" * 32767})
        path.write_text(text)
        if not cut:
            assert len(read_table(path, ["id", "report"]).rows) == 1
            continue
        with pytest.raises(UserError, match="32767 characters, the most that Excel keeps") as told:
            read_table(path, ["id", "report"])
        assert "Laesie" not in str(told.value)
        assert "other" not in str(told.value)


def test_a_formula_may_compute_nothing(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", rows_of(("id", "n"), ("a", '=IF(TRUE,"","x")')))

    def computed(xml: str) -> str:
        xml = xml.replace('<c r="B2">', '<c r="B2" t="str">')
        return xml.replace('<c r="B2" t="n">', '<c r="B2" t="str">')

    assert got(read_table(rewritten(path, computed), ["id", "n"])) == [{"id": "a", "n": ""}]


def hidden(path: Path, height: str) -> Path:
    def fill(book: Workbook) -> None:
        rows_of(("id", "n"), ("a", 1), ("b", 2), ("c", 3), ("d", 4))(book)
        sheet = page(book)
        sheet.row_dimensions[3].hidden = True
        sheet.row_dimensions[9].hidden = True  # nothing in it
        sheet.column_dimensions["B"].hidden = True

    # A row of no height, which openpyxl does not write
    return rewritten(
        workbook(path, fill), lambda xml: xml.replace('<row r="5"', f'<row ht="{height}" r="5"')
    )


@pytest.mark.parametrize("height", ["0", "0.5"])
def test_hidden_rows_and_columns_are_told(
    tmp_path: Path, height: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_table(hidden(tmp_path / "t.xlsx", height), ["id", "n"])
    assert [row.cells["id"] for row in table.rows] == ["a", "b", "c", "d"]
    told = capsys.readouterr().err
    assert "2 rows are hidden and read like the others: 3, 5 (leave them out" in told
    assert "columns that are hidden are read: n" in told
    table = read_table(tmp_path / "t.xlsx", ["id"], visible_only=True)
    assert [(row.number, row.cells["id"]) for row in table.rows] == [(2, "a"), (4, "c")]
    assert "2 rows are hidden and left out: 3, 5" in capsys.readouterr().err


def test_a_filter_that_is_set_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fill(book: Workbook) -> None:
        rows_of(("id",), ("a",), ("b",))(book)
        page(book).auto_filter.ref = "A1:A3"
        page(book).auto_filter.add_filter_column(0, ["a"])
        page(book).row_dimensions[3].hidden = True

    read_table(workbook(tmp_path / "t.xlsx", fill), ["id"])
    assert (
        "1 rows are hidden or filtered out and read like the others: 3" in capsys.readouterr().err
    )


def test_struck_text_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fill(book: Workbook) -> None:
        rows_of(("id",), ("a",), ("b",), ("c",))(book)
        page(book)["A2"].font = Font(strike=True)
        run = TextBlock(InlineFont(strike=True), "old")
        page(book)["A4"].value = CellRichText("new ", run)

    table = read_table(workbook(tmp_path / "t.xlsx", fill), ["id"])
    assert [row.cells["id"] for row in table.rows] == ["a", "b", "new old"]
    assert "struck through is read as if it were not, in 2 rows: 2, 4" in capsys.readouterr().err


def test_a_csv_that_keeps_zeros_from_excel(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id,n\n="007","=""08"""\n')
    assert got(read_table(tmp_path / "t.csv", ["id"])) == [{"id": "007", "n": "08"}]


@pytest.mark.parametrize("mark", ["\ufeff\ufeff", "\u200b"])
def test_marks_before_a_header_do_not_count(tmp_path: Path, mark: str) -> None:
    (tmp_path / "t.csv").write_bytes(f"{mark}id,n\na,1\n".encode())
    assert read_table(tmp_path / "t.csv", ["id"]).columns == ["id", "n"]
