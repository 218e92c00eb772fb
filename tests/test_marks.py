"""Marks beside a data set: kept line by line, the last of a case counts, an export honours them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from voxella.case import Case, Manifest
from voxella.case.marks import MARKS, add_mark, marked_only, read_marks
from voxella.cli import main
from voxella.errors import UserError

SECRET = "Ill-defined focus beside the apex"


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    folder = tmp_path / "dataset"
    folder.mkdir()
    cases = []
    for number in range(4):
        volume = np.random.default_rng(number).random((4, 5, 6)).astype(np.float32)
        nib.save(nib.Nifti1Image(volume, np.diag([0.5, 0.5, 3.0, 1.0])), folder / f"c{number}.nii")
        cases.append(Case(id=f"c{number}", group=f"g{number}", images={"t2w": f"c{number}.nii"}))
    made = Manifest(folder, cases)
    made.write()
    return made


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_marks(folder)
    return str(caught.value)


def test_the_last_line_of_a_case_counts(tmp_path: Path) -> None:
    for case, mark in [("a", "good"), ("b", "copy"), ("a", "bad"), ("c", "good"), ("c", None)]:
        add_mark(tmp_path, case, mark, SECRET if case == "a" else "")
    marks = read_marks(tmp_path)
    assert {case: mark.mark for case, mark in marks.items()} == {"b": "copy", "a": "bad"}
    assert marks["a"].note == SECRET
    lines = [json.loads(line) for line in (tmp_path / MARKS).read_text().splitlines()]
    assert [line["mark"] for line in lines] == ["good", "copy", "bad", "good", None]
    assert set(lines[0]) == {"case", "mark", "note", "when"}
    assert (tmp_path / MARKS).stat().st_mode & 0o077 == 0


def test_no_marks_are_no_file(tmp_path: Path) -> None:
    assert read_marks(tmp_path) == {}


def test_a_line_that_a_kill_has_cut_does_not_count_and_is_not_in_the_way(tmp_path: Path) -> None:
    add_mark(tmp_path, "a", "good")
    with (tmp_path / MARKS).open("a") as file:
        file.write('{"case": "b", "mark": "ba' + "x" * 9000)
    assert list(read_marks(tmp_path)) == ["a"]
    add_mark(tmp_path, "c", "bad")
    assert list(read_marks(tmp_path)) == ["a", "c"]
    (tmp_path / MARKS).write_text("cut")
    add_mark(tmp_path, "d", "bad")
    assert list(read_marks(tmp_path)) == ["d"]


@pytest.mark.parametrize(
    "line",
    [
        f'{{"case": "a", "mark": "{SECRET}"}}',
        f'{{"case": "a", "mark": "good", "note": "{SECRET}{"x" * 2000}"}}',
        f'{{"case": "a", "mark": "good", "{SECRET}": 1}}',
        f'{{"case": 7, "mark": "good", "note": "{SECRET}"}}',
        f'["{SECRET}"]',
        SECRET,
        f'{{"mark": "good", "note": "{SECRET}"}}',
    ],
)
def test_a_line_that_is_none_is_named_and_not_quoted(tmp_path: Path, line: str) -> None:
    (tmp_path / MARKS).write_text(f'{{"case": "z", "mark": "good"}}\n{line}\n')
    said = refused(tmp_path)
    assert "line 2" in said
    assert "remove this line" in said
    assert SECRET not in said


def test_a_mark_that_is_none_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="good, bad, artefact, copy"):
        add_mark(tmp_path, "a", "fine")
    assert not (tmp_path / MARKS).exists()


def test_only_what_is_marked_is_exported(
    dataset: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for case, mark in [("c0", "good"), ("c1", "bad"), ("c2", "good"), ("c2", "artefact")]:
        add_mark(dataset.folder, case, mark, SECRET)
    add_mark(dataset.folder, "c3", "good")
    out = tmp_path / "nnunet"
    words = ["export", "nnunet", str(dataset.folder), "--out", str(out)]
    assert main([*words, "--only-marked", "good"]) == 0
    assert sorted(path.name for path in out.rglob("*.nii.gz")) == [
        "c0_0000.nii.gz",
        "c3_0000.nii.gz",
    ]
    said = capsys.readouterr()
    assert "2 of 4 cases" in said.out
    every = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert SECRET not in said.out + said.err
    assert SECRET.encode() not in every


def test_an_export_of_nothing_is_a_mistake(
    dataset: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_mark(dataset.folder, "c0", "bad")
    words = ["export", "nnunet", str(dataset.folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--only-marked", "good"]) == 2
    said = capsys.readouterr().err
    assert "1 case of 4 bear any mark" in said
    assert not (tmp_path / "out").exists()
    both = marked_only(dataset, ["bad", "good"])
    assert [case.id for case in both] == ["c0"]
