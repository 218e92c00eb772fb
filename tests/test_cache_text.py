"""The text cache: one copy per text, the empty report always there, settings held to the recipe."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from voxella.cache.text import CaseText, TextCache, TextWriter, merge_text, text_key
from voxella.errors import UserError
from voxella.recipe.model import Text
from voxella.wording import human_bytes
from voxella.workspace.space import require_space

MARK = "fingerprint"


def settings(**changes: Any) -> Text:
    return Text.model_validate({"encoder": {"name": "stub"}, "width": 6} | changes)


def case(text: str, tokens: int = 3, cut: int = 0) -> CaseText:
    return CaseText(key=text_key(text, MARK), has_report=text != "", tokens=tokens, cut=cut)


CASES = {"a": case("one"), "b": case("two", 9, 4), "c": case("one"), "d": case("")}


def features(text: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(text) + sum(text.encode()))
    return torch.randn(len(text) + 1, 6, generator=generator)


def make(folder: Path, text: Text, cases: dict[str, CaseText] = CASES) -> TextCache:
    known = {text_key(t, MARK): t for t in ("", "one", "two")}
    wanted = {text_key("", MARK), *(c.key for c in cases.values())}
    texts = {key: words for key, words in known.items() if key in wanted}
    with TextWriter(folder, text.dtype, key="key", texts=texts) as writer:
        for key, words in texts.items():
            writer.add(key, features(words))
    return merge_text(folder, text, key="key", fingerprint=MARK, cases=cases)


def test_features_come_back_at_their_true_length(tmp_path: Path) -> None:
    text = settings(dtype="float32")
    make(tmp_path, text)
    cache = TextCache.open(tmp_path, text)
    found, has_report = cache.read("b")
    assert torch.equal(found, features("two"))
    assert has_report
    assert (cache.width, cache.fingerprint, cache.ids) == (6, MARK, ("a", "b", "c", "d"))
    assert [cache.length(i) for i in cache.ids] == [4, 4, 4, 1]
    assert cache.truncated == {"reports": 1, "tokens": 4}


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    cache = make(tmp_path, settings())
    found, _ = cache.read("a")
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, features("one").to(torch.bfloat16))


def test_equal_reports_share_one_copy_and_no_report_is_the_empty_one(tmp_path: Path) -> None:
    cache = make(tmp_path, settings(dtype="float32"))
    assert cache.read("a")[0].data_ptr() == cache.read("c")[0].data_ptr()
    nothing, has_report = cache.read("d")
    assert not has_report
    assert torch.equal(nothing, cache.empty)
    assert torch.equal(cache.empty, features(""))


def test_the_empty_report_is_there_when_every_case_has_one(tmp_path: Path) -> None:
    cache = make(tmp_path, settings(dtype="float32"), {"b": case("two")})
    assert torch.equal(cache.empty, features(""))


def test_a_key_depends_on_text_and_encoder_and_quotes_neither() -> None:
    assert text_key("one", MARK) == text_key("one", MARK)
    assert len({text_key("one", MARK), text_key("one", "x"), text_key("two", MARK)}) == 3
    assert len(text_key("secret", MARK)) == 64
    assert "secret" not in text_key("secret", MARK)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"truncation": "left"}, "truncation 'right', the recipe says 'left'"),
        ({"max_tokens": 77}, "max_tokens 512, the recipe says 77"),
        ({"padding": "max"}, "padding 'none', the recipe says 'max'"),
        ({"dtype": "float32"}, "dtype 'bfloat16', the recipe says 'float32'"),
        ({"width": 8}, "width 6, the recipe says 8"),
        ({"encoder": {"name": "other"}}, "encoder {'name': 'stub'}"),
        ({"encoder": {"name": "stub", "path": "elsewhere"}}, "'path': 'elsewhere'"),
    ],
)
def test_other_settings_are_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    make(tmp_path, settings())
    with pytest.raises(UserError) as caught:
        TextCache.open(tmp_path, settings(**changes))
    assert told in str(caught.value)
    assert "next:     voxella encode" in str(caught.value)
    # Options make the recipe ask for what is there, but for another encoder or width.
    (name, _), *_ = changes.items()
    offered = f"to take them as they are: --set text.{name}={getattr(settings(), name)}"
    assert (offered in str(caught.value)) is (name not in ("width", "encoder"))


def test_how_an_encoder_runs_does_not_matter(tmp_path: Path) -> None:
    make(tmp_path, settings())
    elsewhere = settings(encoder={"name": "stub", "device": "cuda", "batch_size": 99})
    assert TextCache.open(tmp_path, elsewhere).width == 6


def test_missing_cases_are_listed(tmp_path: Path) -> None:
    cache = make(tmp_path, settings())
    with pytest.raises(UserError, match=r"2 cases have no text features in .*: x, y"):
        cache.require(["a", "x", "y"])
    with pytest.raises(UserError, match="x"):
        cache.read("x")
    with pytest.raises(UserError, match="1 cases have no text features yet: e"):
        make(tmp_path, settings(), CASES | {"e": case("three")})


def test_a_changed_report_changes_the_caches_key(tmp_path: Path) -> None:
    before = make(tmp_path / "before", settings()).key
    assert make(tmp_path / "same", settings()).key == before
    after = make(tmp_path / "after", settings(), CASES | {"a": case("two")})
    assert after.key != before


def test_a_disk_too_small_is_said_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 2 * 10**9))
    assert require_space(tmp_path / "new", 10**9, "latents") == (
        "latents: 1.0 GB to write, 2.0 GB free"
    )
    with pytest.raises(UserError, match=r"latents will take 3.0 GB; .* has 2.0 GB free"):
        require_space(tmp_path / "new", 3 * 10**9, "latents")
    assert [human_bytes(n) for n in (999, 8_400_000, 5 * 10**13)] == ["999 B", "8.4 MB", "50.0 TB"]
