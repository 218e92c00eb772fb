"""The YAML dialect of recipes: plain data, remembered lines, nothing executable."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxella.errors import UserError
from voxella.recipe.yaml_lines import Node, dump_yaml, locate, parse_text, plain, read_yaml


def parse(text: str) -> Node:
    return parse_text(text, "r.yaml", Path("/somewhere"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.2.2, example 10.9 and the regular expressions of section 10.3.2
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        (".5", 0.5),
        ("-3", -3),
        ("08", 8),
        ("-.inf", float("-inf")),
        ("true", True),
        ("~", None),
        ("null", None),
        # words that YAML 1.1 turns into something else
        ("no", "no"),
        ("on", "on"),
        ("none", "none"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("'1e-4'", "1e-4"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    got = plain(parse(text))
    assert got == value
    assert type(got) is type(value)


_DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_subnormal=False)
    | st.text(alphabet="0123456789.+-_eE~:# '\"\nnoyx", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet="1e~ab.", max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_DATA)
def test_what_is_dumped_is_read_back(data: object) -> None:
    assert plain(parse(dump_yaml(data))) == data  # type: ignore[arg-type] # any JSON value


def test_every_key_remembers_its_line() -> None:
    tree = parse("a: 1\n\nb:\n  c:\n    - x\n    - d: 2\n")
    lines = {
        path: locate(tree, path)[0].mark.line
        for path in [("a",), ("b",), ("b", "c"), ("b", "c", 0), ("b", "c", 1, "d")]
    }
    assert lines == {("a",): 1, ("b",): 3, ("b", "c"): 4, ("b", "c", 0): 5, ("b", "c", 1, "d"): 6}
    assert str(locate(tree, ("b", "c"))[0].mark) == "r.yaml:4"


def test_a_key_that_stands_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(
        UserError, match=r"r\.yaml:3: the key 'a' is duplicated, first in r\.yaml:1"
    ):
        parse("a: 1\nb: 2\na: 3\n")
    with pytest.raises(UserError, match=r"r\.yaml:2: the key 'x' is duplicated"):
        parse("a: {x: 1,\n  x: 2}\n")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch SENTINEL']",
        "a: !!python/name:os.system",
        "a: !custom {b: 1}",
        "a: !!set {b}",
        "a: !!timestamp 2020-01-01",
        "a: !!binary aGVsbG8=",
        "!!python/object:os.system a: 1",
    ],
)
def test_tags_are_refused_and_nothing_runs(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"r\.yaml:1: the tag \S+ is refused: .* plain data"):
        parse(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x\n", "a: &x\n  b: *x\n"])
def test_aliases_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="anchors and aliases"):
        parse(text)


def test_a_merge_key_is_a_key_like_any_other() -> None:
    assert plain(parse("<<: {a: 1}\nb: 2\n")) == {"<<": {"a": 1}, "b": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", r"r\.yaml:2: not YAML"),
        ("a: 1\n\tb: 2\n", r"r\.yaml:2: not YAML"),
        ("a: 1\n---\nb: 2\n", r"r\.yaml:2: not YAML: .*another document"),
        ("1: a\n", r"r\.yaml:1: a key must be a word, received '1' \(quoted, it is\)"),
        ("true: a\n", r"r\.yaml:1: a key must be a word, received 'true' \(quoted, it is\)"),
        ("a: \x00\n", r"r\.yaml: not YAML"),
    ],
)
def test_broken_yaml_is_a_message_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(text)


def test_a_file_that_is_not_text_is_a_message(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(UserError, match=r"r\.yaml: not UTF-8 text \(byte 3\)"):
        read_yaml(file)
    with pytest.raises(UserError, match="cannot be read"):
        read_yaml(tmp_path)
