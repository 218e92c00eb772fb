"""Importer `ccella`: the released lists with and without features, and the spreadsheet."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from voxella.case import Manifest
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.testing import ImporterContract
from voxella_importers.ccella.plugin import ccella, voxella_factory

SECRET = "Laesie in de perifere zone, PI-RADS 4.\n"
NEGATIVE, POSITIVE = [1, 0], [0, 1]


def entry(folder: str, pirads: Any = NEGATIVE, text: str = "", **more: Any) -> dict[str, Any]:
    """An entry as the released lists have it."""
    return {
        "axt2": f"./{folder}/axt2.nii.gz",
        "dataset": "Institute1",
        "folder": folder,
        "pirads": pirads,
        "spacing": [0.5, 0.5, 0.5625],
        "text": text,
        "text_isnull": int(not text),
        **more,
    }


def write_lists(folder: Path, *, image: bool = True, **lists: Sequence[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(entries))
        for one in entries if image else ():
            if isinstance(one, dict) and "axt2" in one:
                write_volume(folder / "images" / one["axt2"], np.ones((3, 3, 2)), np.eye(4))
    return folder


def write_sheet(path: Path, *rows: Sequence[object], columns: Sequence[str] = ()) -> Path:
    book = Workbook()
    assert isinstance(book.active, Worksheet)
    # As pandas writes it: an index without a name comes first.
    book.active.append(["", *(columns or ("folder", "PosPIRADS", "PosISUP", "Label"))])
    for number, line in enumerate(rows):
        book.active.append([number, *line])
    book.save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lists(
        tmp_path / "datasets",
        train=[entry("p1", POSITIVE, SECRET), entry("p2"), entry("p3/s1", POSITIVE)],
        test=[entry("p4", NEGATIVE, "Geen afwijking.")],
    )


def test_the_released_lists(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = Manifest.read(ccella(source=source.parent)(out).folder)
    assert [(c.id, c.group, c.split, c.label, c.label_source) for c in manifest] == [
        ("p1", "p1", "train", "positive", "pirads"),
        ("p2", "p2", "train", "negative", "pirads"),
        ("p3_s1", "p3", "train", "positive", "pirads"),
        ("p4", "p4", "test", "negative", "pirads"),
    ]
    first, second, third, _ = manifest
    assert first.images == {"t2w": str((source / "images" / "p1" / "axt2.nii.gz").resolve())}
    assert manifest.read_report(first) == SECRET
    assert second.report is None
    assert stat.S_IMODE((out / "reports" / "p1.txt").stat().st_mode) == 0o600
    assert first.extra == {
        "dataset": "Institute1",
        "spacing_mm": [0.5, 0.5, 0.5625],
        "report_encoding": "inline, json",
    }
    assert third.extra["folder"] == "p3/s1"
    assert "Laesie" not in (out / "manifest.jsonl").read_text()


def test_further_sequences_and_another_folder_of_images(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", image=False, train=[entry("p1", b1600="./p1/b.nii.gz")])
    for name in ("axt2", "b"):
        write_volume(tmp_path / "data" / "p1" / f"{name}.nii.gz", np.ones((2, 2, 2)), np.eye(4))
    (case,) = ccella(source=lists, images=tmp_path / "data", sequences=["t2w", "hbv"])(
        tmp_path / "out"
    )
    assert {name: Path(path).name for name, path in case.images.items()} == {
        "t2w": "axt2.nii.gz",
        "hbv": "b.nii.gz",
    }


def test_features_beside_reports_are_kept_by_name(source: Path, tmp_path: Path) -> None:
    null = "/path/to/nulltext.npy"
    write_lists(
        source,
        image=False,
        train_merged=[
            entry("p1", POSITIVE, "emb/p1/text.npy"),
            entry("p2", NEGATIVE, null, text_isnull=1),
            entry("p3/s1", POSITIVE, null, text_isnull=1),
        ],
    )
    manifest = ccella(source=source)(tmp_path / "out")
    first, second, _, fourth = manifest
    assert manifest.read_report(first) == SECRET
    assert first.extra["text_features"] == str((source / "emb" / "p1" / "text.npy").absolute())
    assert "text_isnull" not in first.extra
    assert (second.extra["text_features"], second.extra["text_isnull"]) == (null, 1)
    assert "text_features" not in fourth.extra


def test_features_alone_are_no_report_and_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "a.npy"
    there.write_bytes(b"")
    lists = write_lists(
        tmp_path / "lists",
        train_merged=[
            entry("p1", POSITIVE, str(there)),
            entry("p2", POSITIVE, "/nowhere/text.npy"),
            entry("p3", NEGATIVE, "/nowhere/null.npy", text_isnull=1),
        ],
    )
    manifest = ccella(source=lists)(tmp_path / "out")
    assert [case.report for case in manifest] == [None, None, None]
    told = capsys.readouterr().err
    assert "2 of 3 cases have precomputed text features and no report" in told
    assert "1 of these feature files are absent" in told


@pytest.mark.parametrize(
    ("yes", "no"), [(1, 0), (1.0, 0.0), ("Positive", "negative"), (True, False), ("POS", "Neg")]
)
def test_the_sheet_says_where_a_label_comes_from(
    source: Path, tmp_path: Path, yes: object, no: object
) -> None:
    sheet = write_sheet(
        tmp_path / "s.xlsx",
        ("p1", yes, None, yes),
        ("p2", None, no, no),
        # The released code takes PosPIRADS first, but only PosISUP agrees with the list here.
        ("p3/s1", no, yes, yes),
        ("p4", no, yes, no),
    )
    manifest = ccella(source=source, labels=sheet)(tmp_path / "out")
    assert [case.label_source for case in manifest] == ["pirads", "isup", "isup", "pirads"]


def test_a_sheet_whose_label_is_the_split(source: Path, tmp_path: Path) -> None:
    sheet = write_sheet(
        tmp_path / "s.xlsx",
        ("p1", 1, None, "train", "Q", "reader"),
        ("p2", None, 0, "val", "R", None),
        ("p3/s1", 1, None, "train", "Q", None),
        ("p4", 0, None, "test", None, None),
        columns=("folder", "PosPIRADS", "PosISUP", "Label", "patient", "label_source"),
    )
    manifest = ccella(source=source, labels=sheet)(tmp_path / "out")
    assert [(c.group, c.split, c.label_source) for c in manifest] == [
        ("Q", "train", "reader"),
        ("R", "val", "isup"),
        ("Q", "train", "pirads"),
        ("p4", "test", "pirads"),
    ]


def test_numbers_of_the_sheet_are_conditions(source: Path, tmp_path: Path) -> None:
    columns = ("folder", "PosPIRADS", "PosISUP", "Label", "age", "psa", "volume")
    rows = (("p1", 1, None, None, 63, 5.1, None), ("p2", 0, None, None, None, "n/a", 40))
    sheet = write_sheet(tmp_path / "s.xlsx", *rows, columns=columns)
    manifest = ccella(source=source, labels=sheet)(tmp_path / "out")
    assert [case.conditions for case in manifest][:3] == [
        {"age": 63.0, "psa": 5.1},
        {"volume": 40.0},
        {},
    ]
    wrong = write_sheet(tmp_path / "w.xlsx", ("p1", 1, None, None, SECRET), columns=columns[:5])
    with pytest.raises(UserError) as refused:
        ccella(source=source, labels=wrong)(tmp_path / "wrong")
    assert "row 2: age is no number" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_disagreements_are_named_by_entry_and_never_quoted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = write_sheet(
        tmp_path / "s.xlsx", ("p1", 0, 0, None), ("p2", 0, None, "test"), ("p4", 0, None, 1)
    )
    with pytest.raises(UserError) as caught:
        ccella(source=source, labels=sheet)(tmp_path / "out")
    message = str(caught.value)
    assert "train.json, entry 1: pirads in the list and the spreadsheet's row disagree" in message
    assert "train.json, entry 2: it stands in the list train, its row says test" in message
    assert "test.json, entry 1: pirads in the list" in message
    assert "Laesie" not in message
    good = write_sheet(tmp_path / "t.xlsx", ("p1", 1, None, None), ("p9", 1, None, None))
    ccella(source=source, labels=good)(tmp_path / "out")
    told = capsys.readouterr().err
    assert "3 of 4 cases are not in the spreadsheet" in told
    assert "1 of 2 rows of the spreadsheet are of no case in the lists" in told


def test_wrong_sheets_are_named_by_row(source: Path, tmp_path: Path) -> None:
    sheet = write_sheet(tmp_path / "s.xlsx", ("p1", SECRET, 2, None), (None, 1, 1, None))
    with pytest.raises(UserError) as caught:
        ccella(source=source, labels=sheet)(tmp_path / "out")
    message = str(caught.value)
    assert "row 2: PosPIRADS is neither positive (1) nor negative (0)" in message
    assert "row 2: PosISUP is neither" in message
    assert "row 3: no folder" in message
    assert "Laesie" not in message
    other = write_sheet(tmp_path / "t.xlsx", ("p1", 1), columns=("folder", "PIRADS"))
    with pytest.raises(UserError, match="no column PosPIRADS, PosISUP"):
        ccella(source=source, labels=other)(tmp_path / "out")


def test_wrong_entries_are_named_together_and_never_quoted(tmp_path: Path) -> None:
    lists = write_lists(
        tmp_path / "lists",
        image=False,
        train=[
            entry("p1", [1, 1], SECRET),
            entry("p2", text_isnull=3, spacing=[1, 2]),
            {"text": SECRET},
            entry("p3", dataset=SECRET * 3),
            SECRET,  # type: ignore[list-item]  # what is no object is the point
            entry("p4"),
            entry("p5", text=5),  # type: ignore[arg-type]  # what is no text is the point
        ],
        test=[entry("p4")],
    )
    with pytest.raises(UserError) as caught:
        ccella(source=lists)(tmp_path / "out")
    message = str(caught.value)
    for words in (
        "train.json, entry 1: pirads is neither [1, 0] nor [0, 1]",
        "train.json, entry 2: text_isnull is neither 0 nor 1",
        "train.json, entry 2: spacing is not three lengths",
        "train.json, entry 3: folder is no text",
        "train.json, entry 4: dataset is no name",
        "train.json, entry 5: not an object",
        "train.json, entry 7: text is no text",
        "test.json, entry 1: its folder stands in train.json, entry 6 already",
    ):
        assert words in message
    assert "Laesie" not in message
    again = write_lists(
        tmp_path / "again", train=[entry("p1", text=SECRET, text_isnull=1), entry("Jan Jansen")]
    )
    with pytest.raises(UserError) as caught:
        ccella(source=again)(tmp_path / "out")
    assert "entry 1: text_isnull is 1, and there is a text" in str(caught.value)
    assert "entry 2: its folder is not of letters" in str(caught.value)
    assert "Jansen" not in str(caught.value)


def test_a_folder_cannot_lead_elsewhere(tmp_path: Path) -> None:
    lists = write_lists(tmp_path / "lists", image=False, train=[entry("a/../../b")])
    with pytest.raises(UserError, match="its folder is not of letters"):
        ccella(source=lists)(tmp_path / "out")


def test_absent_images_are_one_line_a_problem(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        ccella(source=source, images=tmp_path, sequences=["t2w", "adc"])(tmp_path / "out")
    message = str(caught.value)
    assert "4 of 4 cases have no usable images:" in message
    assert "  no axt2 file: 4 (p1, p2, p3_s1, p4)" in message
    assert "  no adc in the list: 4 (p1, p2, p3_s1, p4)" in message
    assert "--set images=FOLDER" in message
    (source / "images" / "p2" / "axt2.nii.gz").unlink()
    made = ccella(source=source, skip_bad=True)(tmp_path / "out")
    assert [case.id for case in made] == ["p1", "p3_s1", "p4"]


def test_splits_by_patient(tmp_path: Path) -> None:
    many = [entry(f"p{number}/s{study}") for number in range(30) for study in range(2)]
    lists = write_lists(tmp_path / "lists", train=many[::2], test=many[1::2])
    with pytest.raises(UserError, match=r"patients of 30 cases stand(.|\n)*resplit=true"):
        ccella(source=lists)(tmp_path / "out")
    made = ccella(source=lists, resplit=True, val_share=0.2, test_share=0.2)(tmp_path / "out")
    by_patient = {case.group: case.split for case in made}
    assert all(by_patient[case.group] == case.split for case in made)
    assert set(by_patient.values()) == {"train", "val", "test"}
    # Of the train list alone, some are held out for validation and none for testing.
    held = ccella(source=lists / "train.json", val_share=0.3, test_share=0.0)(tmp_path / "one")
    assert {case.split for case in held} == {"train", "val"}


def test_validation_cases_come_from_the_train_list(source: Path, tmp_path: Path) -> None:
    many = [entry(f"p{number}") for number in range(40)]
    lists = write_lists(tmp_path / "lists", train=many[:30], test=many[30:])
    made = ccella(source=lists, val_share=0.3)(tmp_path / "out")
    assert {case.split for case in made.cases[:30]} == {"train", "val"}
    assert {case.split for case in made.cases[30:]} == {"test"}


def test_settings_are_checked_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'dwi' is none of t2w(.|\n)*two, not 3(.|\n)*val_share 2"):
        ccella(source=tmp_path, sequences=["dwi"], classes=["a", "b", "c"], val_share=2)
    with pytest.raises(UserError, match=r"no train.json, test.json or train_merged.json there"):
        ccella(source=tmp_path)(tmp_path / "out")
    (tmp_path / "train.json").write_text(f"{{{SECRET}")
    with pytest.raises(UserError, match="not JSON") as caught:
        ccella(source=tmp_path)(tmp_path / "out")
    assert "Laesie" not in str(caught.value)


def test_the_hook_answers_for_its_own_name() -> None:
    assert voxella_factory("ccella") is ccella
    assert voxella_factory("picai") is None


class TestContract(ImporterContract):
    """The contract of importers, on made lists."""

    plugin = "ccella"

    @pytest.fixture(autouse=True)
    def made(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Name the lists to the builder."""
        monkeypatch.setattr(type(self), "arguments", {"source": source})
