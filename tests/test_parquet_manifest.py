"""A manifest as a Parquet table: the same cases as in lines, opened without reading them."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import resource
import stat
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from voxella.case import MANIFEST, Case, Manifest, manifest_file
from voxella.case.parquet import TABLE, CaseTable, write_table
from voxella.check.quick import read_leniently
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella_importers.phantom.plugin import phantom
from voxella_importers.table.plugin import table

MANY = 200_000
SENTENCE = "Mrs Zebra has a lesion on the left side"
SPLITS = ("train", "train", "val", "test")


def one(number: int, **facts: Any) -> Case:
    given: dict[str, Any] = {
        "id": f"case-{number:07d}",
        "group": f"slide-{number // 8:06d}",
        "images": {"tile": f"tiles/{number // 1000:04d}/{number:07d}.png"},
        "texts": {"report": f"reports/case-{number:07d}.txt"} if number % 3 else {},
        "label": ("negative", "positive")[number % 2],
        "split": SPLITS[number // 8 % 4],
        "conditions": {"age": 40.0 + number % 50, "stain": "HE"},
        "extra": {"spacing_mm": [0.5, 0.25], "site": "größe"},
    }
    return Case.model_validate(given | facts)


def many() -> Iterator[Case]:
    """The cases of :func:`one`, judged once and then copied: the test is of the table."""
    first = [one(number) for number in range(6)]
    for number in range(MANY):
        case_id = f"case-{number:07d}"
        yield first[number % 6].model_copy(
            update={
                "id": case_id,
                "group": f"slide-{number // 8:06d}",
                "images": {"tile": f"tiles/{number // 1000:04d}/{number:07d}.png"},
                "texts": {"report": f"reports/{case_id}.txt"} if number % 3 else {},
                "split": SPLITS[number // 8 % 4],
                "conditions": {"age": 40.0 + number % 50, "stain": "HE"},
            }
        )


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        Manifest.read(folder)
    return str(caught.value)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    write_table(folder / TABLE, many())
    return folder


def test_two_hundred_thousand_cases_are_opened_at_once(large: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    manifest = Manifest.open(large)
    opened = time.perf_counter() - begin
    assert len(manifest) == MANY
    places = [0, 1, 2047, 2048, 77_777, MANY - 1, -1]
    assert [manifest.cases[place] for place in places] == [one(n % MANY) for n in places]
    # Kilobytes. The same cases as objects take more than 600 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert opened < 5
    with pytest.raises(IndexError):
        manifest.cases[MANY]
    assert manifest.cases[5:8] == [one(5), one(6), one(7)]


def test_all_rows_come_in_order_and_by_split(large: Path) -> None:
    manifest = Manifest.open(large)
    step = 4_999
    for number, case in enumerate(manifest):
        assert case.id == f"case-{number:07d}"
        if number % step == 0:
            assert case == one(number)
        if number > 20_000:
            break
    val = [case.id for case in islice(CaseTable(large / TABLE).of("val"), 2_000)]
    assert val == [f"case-{n:07d}" for n in range(MANY) if SPLITS[n // 8 % 4] == "val"][:2_000]
    assert val[:9] == [f"case-{n:07d}" for n in (*range(16, 24), 48)]


def test_what_lies_between_rows_is_judged_by_columns(large: Path, tmp_path: Path) -> None:
    table = CaseTable(large / TABLE)
    assert list(table._between()) == []
    cases = [one(n) for n in range(64)]
    cases[40] = one(40, split="test")
    cases[50] = one(9)
    cases[60] = one(60, images={"tile": "../x.png"})
    write_table(tmp_path / TABLE, cases)
    said = refused(tmp_path)
    assert "case case-0000009: its id stands more than once" in said
    assert "case case-0000040: in test, and its group (patient) has other cases in train" in said
    assert "case case-0000041: in train, and its group (patient) has other cases in test" in said
    assert "case case-0000060: its path has '..' in it" in said
    assert "slide-" not in said
    codes = {finding.code for finding in read_leniently(tmp_path)[1]}
    assert codes == {"manifest.duplicate-id", "split.patient", "manifest.path"}
    assert len(read_leniently(tmp_path)[0]) == 63


def test_both_forms_hold_the_same_cases(tmp_path: Path) -> None:
    phantom(cases=6, size=[40, 40, 16], spacing_mm=[4.0, 4.0, 6.0])(tmp_path / "set")
    lines = Manifest.read(tmp_path / "set")
    odd = one(1, id="odd", group="Ω\u2028", label=None, texts={}, conditions={}, extra={"a": [1.5]})
    cases = [*lines, odd, one(2, id="more", texts={"impression": "i.txt", "report": "r.txt"})]
    bytes_of_lines = Manifest(tmp_path / "lines", cases).write().read_bytes()
    written = Manifest(tmp_path / "table", cases).write(parquet_above=3)
    assert written == tmp_path / "table" / TABLE == manifest_file(tmp_path / "table")
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    found = Manifest.read(tmp_path / "table")
    assert list(found) == cases == Manifest.read(tmp_path / "lines").cases
    for name in ("train", "val", "test"):
        assert found.split(name) == Manifest.read(tmp_path / "lines").split(name)
    assert [case.hashed() for case in found] == [case.hashed() for case in cases]
    # Back to lines: not a byte differs, and one manifest is left.
    again = Manifest(tmp_path / "table", found).write()
    assert again.read_bytes() == bytes_of_lines
    assert not written.exists()


def test_workers_open_it_by_themselves(large: Path) -> None:
    table = CaseTable(large / TABLE)
    assert table[3].id == "case-0000003"
    assert len(pickle.dumps(table)) < 500
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map(table.__getitem__, [5, 190_000, 4_000, 77])
        assert [case.id for case in found] == [f"case-{n:07d}" for n in (5, 190_000, 4_000, 77)]


def damaged(folder: Path) -> Iterator[tuple[str, str]]:
    path = folder / TABLE
    write_table(path, [one(1), one(2)])
    whole = path.read_bytes()
    path.write_bytes(b"PAR1 and nothing more")
    yield "no table", "is no Parquet file, or damaged"
    path.write_bytes(whole[: len(whole) // 2])
    yield "cut", "is no Parquet file, or damaged"
    rows = pyarrow.parquet.read_table(path_of(whole, folder))
    pyarrow.parquet.write_table(rows.drop_columns(["extra"]), path)
    yield "a column less", "has not the columns of a manifest"
    numbers = pyarrow.array([1, 2])
    pyarrow.parquet.write_table(rows.set_column(0, "id", numbers), path)
    yield "numbers for ids", "has not the columns of a manifest"
    for column, cell, words in (
        ("label", SENTENCE, "manifest.parquet:2: case case-0000002: label: has "),
        ("extra", json.dumps({"note": SENTENCE}), "case case-0000002: extra: has "),
        ("conditions", '{"age": 1, "age": 2}', "manifest.parquet:2: conditions: no JSON value"),
        ("images", "[" * 3000, "manifest.parquet:2: images: no JSON value"),
        ("split", "Zebra", "case case-0000002: split: "),
    ):  # fmt: skip
        values = [*rows.column(column).to_pylist()[:1], cell]
        place = rows.column_names.index(column)
        pyarrow.parquet.write_table(rows.set_column(place, column, pyarrow.array(values)), path)
        yield column, words


def path_of(data: bytes, folder: Path) -> Path:
    path = folder / "copy.parquet"
    path.write_bytes(data)
    return path


def test_what_is_wrong_is_said_and_never_quoted(tmp_path: Path) -> None:
    seen = 0
    for what, words in damaged(tmp_path):
        said = refused(tmp_path)
        assert words in said, what
        assert "Zebra" not in said, what
        seen += 1
    assert seen == 9


def test_a_row_is_judged_when_it_is_asked_for(tmp_path: Path) -> None:
    write_table(tmp_path / TABLE, [one(1), one(2)])
    rows = pyarrow.parquet.read_table(tmp_path / TABLE, memory_map=False)
    at = rows.column_names.index("label")
    labels = pyarrow.array(["positive", SENTENCE])
    pyarrow.parquet.write_table(rows.set_column(at, "label", labels), tmp_path / TABLE)
    manifest = Manifest.open(tmp_path)
    assert manifest.cases[0] == one(1)
    with pytest.raises(UserError, match="case case-0000002: label: has") as caught:
        manifest.cases[1]
    assert "Zebra" not in str(caught.value)


def test_two_manifests_in_one_folder_are_refused(tmp_path: Path) -> None:
    assert manifest_file(tmp_path) is None
    assert "no data set here" in refused(tmp_path)
    Manifest(tmp_path, [one(1)]).write()
    write_table(tmp_path / TABLE, [one(1)])
    assert f"{MANIFEST} and {TABLE}; which of them counts?" in refused(tmp_path)


def test_a_group_of_rows_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / TABLE, [one(n) for n in range(100)])
    monkeypatch.setenv("VOXELLA_MAX_TEXT_BYTES", "100")
    assert "expected: at most 100" in refused(tmp_path)


def test_an_import_of_many_rows_writes_a_table(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz", np.ones((8, 8, 4), dtype=np.float32), np.eye(4))
    rows = [{"id": f"c{n}", "group": f"g{n // 2}", "t2w": "a.nii.gz"} for n in range(7)]
    source = tmp_path / "t.jsonl"
    source.write_text("\n".join(json.dumps(row) for row in rows))
    given: dict[str, Any] = {"source": source, "val_share": 0, "test_share": 0}
    lines = table(**given)(tmp_path / "lines")
    table(**given, parquet_above=6)(tmp_path / "table")
    assert manifest_file(tmp_path / "lines") == tmp_path / "lines" / MANIFEST
    assert manifest_file(tmp_path / "table") == tmp_path / "table" / TABLE
    assert list(Manifest.read(tmp_path / "table")) == lines.cases
