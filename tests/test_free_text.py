"""A report in a wrong place: no field of a case keeps it, no message shows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.case_fields import GUARDED, field_problem
from voxella.cli import main
from voxella.data.drafts import CaseDraft, DatasetWriter
from voxella.engine.settings import deepspeed_config
from voxella.errors import UserError
from voxella.imaging.volume import write_volume
from voxella.recipe.load import load_recipe
from voxella.wording import named, shown_path, why_sentence
from voxella_importers.table.plugin import table

REPORTS = (
    "Mevrouw Jansen: PI-RADS 4 in de perifere zone links",
    "Kein Befund.\nJansen",
    "Jansen" * 40,
    "前列腺左侧外周带可见一个结节考虑恶性病变可能性大建议进一步检查穿刺活检",
)
CODES = (
    "PI-RADS 4",
    "Gleason 3 + 4",
    "clinically significant",
    "10000_1000000",
    "site 7",
    "Ω-12/b",
    "nan",
)
KEEP: dict[str, Any] = {"val_share": 0, "test_share": 0}


@pytest.mark.parametrize("code", CODES)
def test_codes_stand_in_every_field(code: str) -> None:
    assert [field_problem(field, code) for field in GUARDED] == [None] * len(GUARDED)
    assert named(code) == code


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_stands_in_no_field(report: str) -> None:
    nested = {"extra": {"scanner": {"note": [report]}}, "images": {"t2w": f"images/{report}"}}
    for field in GUARDED:
        assert field_problem(field, nested.get(field, report)) is not None
        with pytest.raises(ValidationError) as caught:
            Case.model_validate(
                {"id": "a", "group": "p", "images": {}, field: nested.get(field, report)}
            )
        assert "Jansen" not in str(caught.value)
        assert report not in str(caught.value)
    assert field_problem("extra", {report: 1}) is not None
    assert field_problem("images", {report: "a.nii"}) is not None
    assert "Jansen" not in named(report)


def test_names_of_files_and_folders_that_users_have() -> None:
    for path in (
        "images/T2 TSE axial 3 mm (2).nii.gz",
        "/home/a b/Study of the prostate at our hospital in the year 2021/x 1.nii.gz",
        "C:\\Data\\MR\\scan one.mha",
    ):
        assert field_problem("images", {"t2w": path}) is None
    assert field_problem("extra", {"SoftwareVersions": "syngo MR E11 v 2 b"}) is None
    assert field_problem("group", "") is None
    assert why_sentence("a b c d e") == "has 5 words, at most 4 are allowed"


@pytest.mark.parametrize("report", REPORTS)
def test_a_manifest_with_a_report_in_a_field_is_refused_by_line(
    report: str, tmp_path: Path
) -> None:
    entries: list[dict[str, Any]] = [
        {"id": "a", "group": report, "images": {}},
        {"id": "b", "group": "p", "images": {}, "label_source": report, report: 1},
        {"id": "c", "group": "p", "images": {report: "c.nii"}, "split": report},
    ]
    path = tmp_path / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(entry) for entry in entries), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        Manifest.read(tmp_path)
    said = str(caught.value)
    assert f"{path}:1: case a: group: has " in said
    assert f"{path}:2: case b: label_source: has " in said
    assert f"{path}:2: case b: a field that no case has" in said
    assert f"{path}:3: case c: images: has a key that has " in said
    assert f"{path}:3: case c: split: " in said
    assert report not in said
    assert "Jansen" not in said


def source(folder: Path, rows: int, **cells: str) -> Path:
    """A table of that many rows; ``cells`` of the columns besides id and t2w."""
    write_volume(folder / "a.nii.gz", np.ones((3, 3, 3)), np.eye(4))
    records = [{"id": f"c{n}", "t2w": "a.nii.gz", **cells} for n in range(rows)]
    path = folder / "t.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def refused(out: Path, path: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        table(source=path, **KEEP, **settings)(out)
    assert not out.exists()
    said = str(caught.value)
    for report in REPORTS:
        assert report not in said
    assert "Jansen" not in said
    return said


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("field", ["group", "label_source"])
def test_a_column_of_reports_taken_for_another_is_one_message(
    report: str, field: str, tmp_path: Path
) -> None:
    columns = {field: "Befund"}
    few = refused(tmp_path / "out", source(tmp_path, 2, Befund=report), columns=columns)
    for row in (1, 2):
        assert f"row {row}: column Befund as {field}: has " in few
    many = refused(tmp_path / "out", source(tmp_path, 30, Befund=report), columns=columns)
    assert f"column Befund as {field}: free text is not kept in a manifest, and 30 of 30 " in many
    assert "1 problems" in many


@pytest.mark.parametrize("report", REPORTS[:3])
@pytest.mark.parametrize("column", ["id", "label", "split", "t2w", "report_file"])
def test_a_report_in_a_cell_is_never_shown(column: str, report: str, tmp_path: Path) -> None:
    cell = f"{report}.nii.gz" if column == "t2w" else report
    said = refused(tmp_path / "out", source(tmp_path, 1, **{column: cell}))
    assert "row 1: " in said


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(
    "settings",
    [
        lambda text: {"classes": ["negative", text]},
        lambda text: {"label_source": text},
        lambda text: {"columns": {text: "id"}},
        lambda text: {"columns": {"id": text}},
        lambda text: {"labels": {"0": text}},
        lambda text: {"labels": {text: "negative"}},
        lambda text: {"sequences": [text]},
        lambda text: {"extra": [text]},
    ],
)
def test_settings_that_are_reports_are_not_shown(
    settings: Any, report: str, tmp_path: Path
) -> None:
    refused(tmp_path / "out", source(tmp_path, 1, label="maybe"), **settings(report))


def test_a_key_of_json_that_is_a_report_is_not_listed(tmp_path: Path) -> None:
    path = source(tmp_path, 1, **{REPORTS[0]: "x"})
    said = refused(tmp_path / "out", path, columns={"group": "Pat"})
    assert "no column Pat" in said
    assert f"text of {len(REPORTS[0])} characters" in said


def test_every_importer_ends_at_the_same_rule(tmp_path: Path) -> None:
    drafts = [
        CaseDraft(
            id=f"c{n}", group=REPORTS[0], images={"t2w": tmp_path / "a.nii"}, label=REPORTS[1]
        )
        for n in range(3)
    ]
    with pytest.raises(UserError, match=r"group has .* \(cases c0, c1, c2\)") as caught:
        DatasetWriter(**KEEP).write(drafts, tmp_path / "out")
    assert "label has several lines (cases c0, c1, c2)" in str(caught.value)
    assert "Jansen" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_there_is_called_by_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a folder that somebody has called by all of these words"
    folder.mkdir()
    assert shown_path(folder / "x.nii") == str(folder / "x.nii")
    hidden = shown_path(folder / REPORTS[0].replace("/", ""), most_words=4)
    assert hidden == str(folder / f"text of {len(REPORTS[0])} characters")
    assert shown_path(REPORTS[0]) == f"text of {len(REPORTS[0])} characters"


RECIPE = str(REPOSITORY / "recipes" / "ccella.yaml")
ONE_LINE = REPORTS[0]


def told(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that is a mistake; return what it says, which is none of the report."""
    capfd.readouterr()
    try:
        assert main(words) == 2
    except SystemExit as stop:
        assert stop.code == 2  # noqa: PT017 - argparse's way to end
    captured = capfd.readouterr()
    said = captured.out + captured.err
    assert "Traceback" not in said
    for part in ("Jansen", "perifere", "zone links"):
        assert part not in said, said
    return said


@pytest.mark.parametrize(
    "words",
    [
        ("sample", RECIPE, ONE_LINE),
        ("sample", RECIPE, *ONE_LINE.split()),
        ("sample", ONE_LINE),
        ("sample", RECIPE, "--workers", ONE_LINE),
        ("sample", RECIPE, f"--{ONE_LINE}"),
        ("sample", RECIPE, "--profile", ONE_LINE),
        ("sample", RECIPE, "--set", ONE_LINE),
        ("sample", RECIPE, "--set", f"{ONE_LINE}=1"),
        ("sample", RECIPE, "--set", f"train.steps={ONE_LINE}"),
        ("sample", RECIPE, "--set", f"train.{ONE_LINE}=1"),
        ("sample", RECIPE, "--set", f"data.classes=[negative, {ONE_LINE!r}]"),
        ("sample", RECIPE, "--set", f"sample.prompts={ONE_LINE!r}", "--dataset", "."),
        ("sample", RECIPE, "--profile", "smoke", "--dataset", ONE_LINE),
        ("evaluate", RECIPE, "--profile", "smoke", "--samples", ONE_LINE),
        (ONE_LINE,),
        ("import", ONE_LINE, "--out", "x"),
        ("import", "table", ONE_LINE, "--out", "x"),
        ("import", "table", "t.csv", "--out", "x", "--set", f"label_source={ONE_LINE!r}"),
        ("import", "table", "t.csv", "--out", "x", "--set", f"{ONE_LINE}=1"),
        ("import", "dicom", ".", "--out", "x", "--set", f"keep=[{ONE_LINE!r}]"),
        ("check", ONE_LINE),
        ("classify", "--compare", ONE_LINE, ONE_LINE),
        ("report", ONE_LINE),
        ("export", "ccella", ONE_LINE, "--out", "x"),
        ("export", "ccella", ".", "--out", "x", "--name", ONE_LINE),
        ("recipe", "validate", ONE_LINE),
        ("recipe", "diff", RECIPE, ONE_LINE),
        ("plugins", "check", ONE_LINE),
        ("plugins", "check", "cnn", "--set", ONE_LINE),
        ("study", ONE_LINE),
        ("study", str(REPOSITORY / "recipes" / "studies" / "table1.yaml"), "--only", ONE_LINE),
    ],
)
def test_a_report_among_the_words_of_a_command_is_not_repeated(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(capfd, *words)
    for path in tmp_path.rglob("*"):
        assert "Jansen" not in str(path)


@pytest.mark.parametrize(
    "text",
    [
        "{report}",
        "{report}: 1",
        "'{report}': 1",
        "? ['{report}']\n: 1",
        "'{report}': 1\n'{report}': 2",
        "name: '{report}'",
        "name: [a, '{report}",
        "train: '{report}'",
        "train: {{'{report}': 1}}",
        "train: !<{tag}> 1",
        "train: {{steps: '{report}'}}",
        "sample: {{sampler: '{report}'}}",
        "data: {{importer: {{name: '{report}'}}}}",
        "data: {{importer: {{name: table, source: x, '{report}': 1}}}}",
        "data: {{importer: {{name: table, source: x, copy: '{report}'}}}}",
        "data: {{sequences: ['{report}']}}",
        "conditioner: {{name: ella, width: '{report}'}}",
        "extends: '{report}'",
        "extends: [['{report}']]",
        "when: '{report}'",
        "when: ['{report}']",
        "when: [{{if: {{'{report}': 1}}, set: {{}}}}]",
        "when: [{{if: {{name: {{'{report}': 1}}}}, set: {{}}}}]",
        "deepspeed: {{'{report}': 1}}",
        "deepspeed: {{train_batch_size: '{report}'}}",
        "deepspeed: {{zero_optimization: {{'{report}': 1}}}}",
        "deepspeed: {{bf16: '{report}'}}",
        "observers: [{{name: '{report}'}}]",
    ],
)
def test_a_report_in_a_recipe_is_not_repeated(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = text.format(report=ONE_LINE, tag=2 * ONE_LINE.replace(" ", "_"))
    path = tmp_path / "recipe.yaml"
    base = "" if text.startswith("extends") else f"extends: {RECIPE}\n"
    path.write_text(f"{base}{given}\n", encoding="utf-8")
    if "deepspeed" in text:
        with pytest.raises(UserError) as caught:
            deepspeed_config(load_recipe(path).deepspeed, world=1, device=None)
        assert "Jansen" not in str(caught.value)
    else:
        assert str(path) in told(capfd, "recipe", "validate", str(path))


def test_a_report_as_a_path_in_a_recipe_is_not_repeated(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"extends: {RECIPE}\ndata: {{dataset: {ONE_LINE!r}}}\n", encoding="utf-8")
    run = ("--profile", "smoke", "--out", str(tmp_path / "run"))
    assert "no data set here" in told(capfd, "prepare", str(path), *run)


def test_what_is_no_sentence_is_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Messages teach: they show a misspelt word, a number, the folder that is not there."""
    monkeypatch.chdir(tmp_path)
    assert "'forty'" in told(capfd, "sample", RECIPE, "--workers", "forty")
    assert "--wrong 7" in told(capfd, "sample", RECIPE, "--wrong", "7")
    assert "received 'many'" in told(capfd, "sample", RECIPE, "--set", "train.steps=many")
    assert "my data/set 1" in told(capfd, "check", "my data/set 1")
    (tmp_path / "a folder with quite a few words").mkdir()
    assert "few words/manifest" in told(capfd, "check", "a folder with quite a few words")
