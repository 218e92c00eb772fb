"""What no one writes on purpose: one message and exit code 2, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from test_cli import _keep_signals, refused
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.plain_json import parse_json
from voxella.recipe.yaml_lines import parse_text
from voxella.study.load import load_studies
from voxella.weights import read_state_dict

__all__ = ["_keep_signals"]  # a fixture of the command line's tests

CCELLA = REPOSITORY / "recipes" / "ccella.yaml"
DEEP = {
    "lists": "[" * 1000 + "]" * 1000,
    "mappings": "{a: " * 500 + "1" + "}" * 500,
    "lines": "\n" + "\n".join("  " * level + "a:" for level in range(1, 600)) + " 1",
    "dashes": "\n" + "- " * 700 + "1",
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("kind", ["recipe", "profile", "study", "--set"])
def test_nesting_without_end(
    name: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text(f"name: deep\ntrain: {DEEP[name]}\n")
    words = {
        "recipe": ["recipe", "validate", str(path)],
        "profile": ["recipe", "validate", str(CCELLA), "--profile", str(path)],
        "study": ["study", str(path), "--dry-run"],
        "--set": ["recipe", "validate", str(CCELLA), "--set", f"train={DEEP[name]}"],
    }
    said = refused(capfd, *words[kind])
    assert "nested more than 32 levels deep" in said
    assert len(said) < 2000


def test_nesting_up_to_the_limit_is_read() -> None:
    assert parse_text("[" * 32 + "]" * 32, "r", Path("/")).value is not None
    with pytest.raises(UserError, match="nested more than 32 levels deep"):
        parse_text("[" * 33 + "]" * 33, "r", Path("/"))
    assert parse_json("[" * 64 + "]" * 64) is not None
    for text in ("[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65, "[" * 3000 + "]" * 3000):
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            parse_json(text)
    # Many brackets side by side are not deep.
    assert len(parse_json("[" + ",".join(["[]"] * 1000) + "]")) == 1000


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seed: " + "9" * 5000, "r.yaml:2: a whole number of 5,000 digits"),
        ("seed: -" + "9" * 5000, "r.yaml:2: a whole number of 5,001 digits"),
        ("seed: " + "9" * 40, "r.yaml:2: seed: a whole number of more than 64 bits"),
        ('description: "\\ud800"', "r.yaml:2: holds half of a character"),
        ('description: {"\\udfff": 1}', "r.yaml:2: holds half of a character"),
        ('workspace: "a\\0b"', "r.yaml:2: holds half of a character (a lone surrogate), or a null"),
        (
            "optimizer: {lr: .nan}",
            "r.yaml:2: optimizer.lr: received nan; expected: a finite number",
        ),
        ("extends: " + "a" * 5000, "File name too long"),
        ("extends: [" + "a/" * 3000 + "]", "File name too long"),
    ],
)
def test_values_that_no_recipe_means(
    line: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.yaml"
    extends = "" if line.startswith("extends") else f"extends: {CCELLA}"
    path.write_text(f"{extends}\n{line}\n")
    said = refused(capfd, "recipe", "validate", str(path))
    assert told in said
    assert len(said) < 1500


def test_long_names_are_not_repeated_at_length(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["check", "d" * 5000],
        ["run", str(CCELLA), "--profile", "smoke", "--out", f"{tmp_path}/{'o' * 5000}"],
        ["import", "table", "t" * 5000 + ".csv", "--out", str(tmp_path / "out")],
    ):
        said = refused(capfd, *words)
        assert "File name too long" in said
        assert len(said) < 1500


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name: "\\ud800"\n', ":1: holds half of a character"),
        ("- 1\n", ":1: a study is a mapping of keys, received list"),
        ("studies: 1\n", "studies: received 1"),
        ("name: a\nclaims: [{}]\n", ":2: claims.0.text: missing"),
        ("name: a\nclaims: 3\n", ":2: claims: received 3"),
        ("{}\n", "name: missing"),
        ("null\n", "received NoneType"),
    ],
)
def test_a_study_s_mistakes_have_a_place(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_studies(path)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("9" * 5000, "thousands of digits"),
        ('{"a": ' + "9" * 5000 + "}", "thousands of digits"),
        ('"\\ud800"', "half of a character"),
        ('{"\\uDFFF": 1}', "half of a character"),
        ("{", "line 1, column 2"),
        ('{"report": "one", "report": "two"}', "a key is duplicated in one object"),
        ('[{"a": {"b": 1, "c": 2, "b": 1}}]', "a key is duplicated in one object"),
    ],
)
def test_json_that_cannot_be_used_is_one_kind_of_error(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_json(text)
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"  # both halves of one character


def test_damaged_weights_of_every_length(tmp_path: Path) -> None:
    """A checkpoint cut or spoilt anywhere; pickle raises whatever it likes over such."""
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": {"a": torch.ones(3), "b": torch.zeros(2, 2)}}, path)
    sound = path.read_bytes()
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes()
    outcomes: set[str] = set()
    for data in (sound, old):
        for at in range(0, len(data), 7):
            for spoilt in (data[:at], data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]):
                path.write_bytes(spoilt)
                try:
                    read_state_dict(path, what="a network", remedy="none")
                    outcomes.add("read")
                except UserError as error:
                    assert str(path) in error.problem  # noqa: PT017 - some are read
                    outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("spoilt", ["absent", "a folder", "other bytes"])
def test_export_names_reports_that_cannot_be_read(
    spoilt: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = []
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text("A lesion.")
        cases.append(
            Case(
                id=name,
                group=name,
                images={"t2w": f"{name}.nii.gz"},
                texts={"report": f"{name}.txt"},
                label="negative",
            )
        )
    Manifest(tmp_path, cases).write()
    for name in ("a", "c"):
        report = tmp_path / f"{name}.txt"
        report.unlink()
        if spoilt == "a folder":
            report.mkdir()
        elif spoilt == "other bytes":
            report.write_bytes(b"L\xe4sion")
    out = tmp_path / "out"
    said = refused(capfd, "export", "ccella", str(tmp_path), "--out", str(out), "--with-text")
    assert "case a: report" in said
    assert "case c: report" in said
    assert "case b" not in said
    assert not out.exists()


def test_an_encoder_s_index_names_files_of_its_folder_only(tmp_path: Path) -> None:
    from voxella_conditioners.text_folder import open_folder

    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path.parent / "outside.safetensors").write_bytes(b"x")
    for shards in ({"a": "../outside.safetensors"}, {"a": 3.5, "b": "x"}, [1], None, {"a": "/x"}):
        index = {"weight_map": shards}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(UserError, match=r"no weights|is absent"):
            open_folder(tmp_path, "t5")
