"""The manifest: what every importer writes is read back, and every bad line is named at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voxella.case import MANIFEST, Case, Manifest
from voxella.check.quick import read_leniently
from voxella.errors import UserError
from voxella.hashing import sha256_json


def case(name: str, **facts: Any) -> Case:
    return Case.model_validate({"id": name, "group": f"p-{name}", "images": {}, **facts})


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        Manifest.read(folder)
    return str(caught.value)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cases = [
        case("a", images={"t2w": "images/a.nii.gz"}, label="positive", label_source="pirads"),
        case("b", split="test", report="reports/b.txt", extra={"site": "north", "psa": 6.4}),
    ]
    Manifest(tmp_path, cases).write()
    found = Manifest.read(tmp_path)
    assert found.cases == cases
    assert [c.id for c in found.split("test", "val")] == ["b"]
    assert found.image_path(found.cases[0], "t2w") == tmp_path / "images" / "a.nii.gz"


def test_a_report_is_read_from_its_file_and_absent_is_empty(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "b.txt").write_text("größer\n", encoding="utf-8")
    manifest = Manifest(tmp_path, [case("a"), case("b", report="reports/b.txt")])
    assert [manifest.read_report(c) for c in manifest] == ["", "größer\n"]


def test_every_bad_line_is_named_at_once(tmp_path: Path) -> None:
    lines = [
        "{",
        json.dumps({"id": "../up", "group": "p", "images": {}}),
        json.dumps({"id": "a", "group": "p", "images": {}, "colour": "red"}),
        "",
        json.dumps({"id": "b", "group": "p", "images": {}, "split": "train"}),
        json.dumps({"id": "b", "group": "p", "images": {}, "split": "test"}),
        json.dumps({"id": "c", "group": "p", "images": {"t2w": "../x.nii"}, "split": "test"}),
        "[" * 2000 + "]" * 2000,
        '{"id": "d", "group": "\\ud800", "images": {}}',
        '{"id": "e", "group": "p", "images": {}, "extra": {"age": ' + "9" * 5000 + "}}",
    ]
    (tmp_path / MANIFEST).write_text("\n".join(lines), encoding="utf-8")
    said = refused(tmp_path)
    assert f"{MANIFEST}:1: not a JSON object" in said
    assert f"{MANIFEST}:2: id:" in said
    # A key may be a report's text as well.
    assert f"{MANIFEST}:3: case a: a field that no case has:" in said
    assert f"{MANIFEST}:6: case b: its id is duplicated" in said
    assert "case b: in train, and its group (patient) has other cases in test" in said
    assert "case c: its path has '..' in it" in said
    assert f"{MANIFEST}:8: not a JSON object: nested more than" in said
    assert f"{MANIFEST}:9: not a JSON object: half of a character" in said
    assert f"{MANIFEST}:10: not a JSON object: a whole number of thousands of digits" in said
    assert "red" not in said
    assert "colour" not in said


def test_the_check_reads_as_every_stage_does(tmp_path: Path) -> None:
    """One reader: what one refuses the other tells, with the same words."""
    lines = ["{", "[" * 2000, json.dumps({"id": "a", "group": 1}), '{"id": "b"}']
    (tmp_path / MANIFEST).write_text("\n".join(lines), encoding="utf-8")
    said = refused(tmp_path)
    findings = [f for f in read_leniently(tmp_path)[1] if f.code != "manifest.empty"]
    told = [line.partition(MANIFEST)[2] for line in said.splitlines()[:-1]]
    assert len(findings) == len(told) == 6
    for finding, line in zip(findings, told, strict=True):
        number, message = finding.message.removeprefix("line ").split(": ", 1)
        assert line.startswith(f":{number}:")
        assert line.endswith(message)


def test_a_manifest_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    assert "voxella import" in refused(tmp_path)
    (tmp_path / MANIFEST).write_bytes(b'{"id": "\xff secret"}')
    said = refused(tmp_path)
    assert "is not UTF-8 (byte 8)" in said
    assert "secret" not in said


def test_manifests_from_before_say_patient(tmp_path: Path) -> None:
    """They are read as they are; what is written has one name."""
    former = {"id": "a", "patient": "p1", "images": {"t2w": "a.nii.gz"}, "split": "val"}
    (tmp_path / MANIFEST).write_text(json.dumps(former) + "\n", encoding="utf-8")
    found = Manifest.read(tmp_path)
    assert [c.group for c in found] == ["p1"]
    written = json.loads(found.write().read_text(encoding="utf-8"))
    assert written["group"] == "p1"
    assert "patient" not in written
    with pytest.warns(DeprecationWarning, match="group"):
        assert found.cases[0].patient == "p1"
    both = {**former, "group": "p2"}
    (tmp_path / MANIFEST).write_text(json.dumps(both) + "\n", encoding="utf-8")
    assert "case a: a field that no case has" in refused(tmp_path)


def test_the_name_of_the_group_changes_no_hash() -> None:
    """What was prepared, made and evaluated before stays up to date: hashes of the code before."""
    one = case("a", group="p1", images={"t2w": "a.nii.gz"}, split="val", extra={"psa": 6.4})
    assert sha256_json(one.hashed()) == (
        "92018c238a523d416b9a963b46c8d50649d7b7dc163ed865e51c7e7140f0bdd1"
    )
    assert sha256_json(one.hashed(leave_out=("images", "texts", "truth"))) == (
        "e62b193036c0a31262993bae72f4e915c1fbb65707549d5ec0d8d87e91fa7f3d"
    )
