"""Users' names, labels and paths: none leaves its folder, steers the terminal or is free text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tiny_run import tiny_recipe

from voxella.errors import UserError
from voxella.recipe.block import FolderName
from voxella.terminal import complain, make_console, print_line
from voxella.wording import quoted, visible, why_no_code

ESCAPES = "\x1b[2J\x1b]0;title\x07 ok"
REPORT = "There is a 14 mm lesion in the left peripheral zone of the gland"


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", ".hidden", "", "a\\b", "a\n", "a\x1b[31m", "x" * 65, "a "]
)
def test_a_recipes_name_stays_inside_the_folder_of_runs(name: str) -> None:
    with pytest.raises(ValidationError, match="it names a folder"):
        TypeAdapter(FolderName).validate_python(name)


def test_such_a_recipe_is_refused_with_the_place() -> None:
    with pytest.raises(
        UserError, match=r"name: received '\.\./\.\./x'; expected: it names a folder"
    ):
        tiny_recipe("name=../../x")


@pytest.mark.parametrize("key", ["data.sequences=[../t2w]", "data.sequences=['t2w/x']"])
def test_a_sequences_name_stays_inside_its_folder(key: str) -> None:
    with pytest.raises(UserError, match="part of files' names"):
        tiny_recipe(key)


def test_a_class_is_a_short_name_and_a_sentence_is_not_quoted() -> None:
    with pytest.raises(UserError, match="has 14 words, at most 4 are allowed") as raised:
        tiny_recipe(f"data.classes=[negative, '{REPORT}']")
    assert "peripheral" not in str(raised.value)
    assert tiny_recipe("data.classes=[Gleason 3 + 3, Gleason 3 + 4]").data.classes


def test_what_steers_a_terminal_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(f"[bold]{ESCAPES}[/nothing]")
    complain(ESCAPES)
    make_console(width=80).print(f"[red]{ESCAPES}", ":smile:")
    captured = capsys.readouterr()
    for told in (captured.out, captured.err, str(UserError(ESCAPES, expected=ESCAPES))):
        assert "\x1b" not in told
        assert "\x07" not in told
        assert "\\u001b[2J" in told
    assert "[bold]" in captured.out
    assert "[/nothing]" in captured.out
    assert ":smile:" in captured.out


@given(st.text())
def test_no_text_keeps_a_control_or_a_turned_direction(text: str) -> None:
    shown = visible(text)
    assert not {"\x1b", "\x00", "\x7f", "\u202e", "\u2066", "\x9b"} & set(shown)
    assert visible(shown) == shown
    assert "\x1b" not in quoted(text)


def test_what_may_be_a_sentence_is_counted_and_not_shown() -> None:
    assert quoted(REPORT) == f"text of {len(REPORT)} characters"
    assert quoted("posittive") == "'posittive'"
    assert quoted(["a", 1, None]) == "['a', 1, null]"
    assert quoted({REPORT: 1}) == f"{{text of {len(REPORT)} characters: 1}}"
    assert quoted(10**60) == "a whole number of 200 bits"
    assert why_no_code("site-7") is None
    assert why_no_code("two\nlines") == "has several lines"
    assert why_no_code("前列腺左侧外周带可见一个结节考虑恶性病变可能性大") is not None


def test_a_hostile_folder_is_printed_and_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from voxella.cli import main

    assert main(["check", str(tmp_path / "a\x1b[31m[bold]b")]) == 2
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "\\u001b[31m[bold]b" in captured.err
