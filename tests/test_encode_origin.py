"""Text features are what their settings say, are refused by name for others, and can be released.

A tiny T5 folder stands for the paper's: real tokenizer and model classes, random weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import _keep_signals, refused
from tiny_run import REPOSITORY
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from voxella.cache.encode_text import TextEncoding
from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.data.reports import read_reports
from voxella.errors import UserError
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe, Text

__all__ = ["_keep_signals"]  # a fixture of the command line's tests

WORDS = "prostate lesion left right apex base zone peripheral score one two three".split()
REPORTS = {
    "a": "peripheral zone lesion left apex score three",
    "b": None,
    "c": " ".join(WORDS * 50),  # 600 words: longer than the released code keeps
}
WIDTH = 8


def save_model(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    sizes = {"d_model": WIDTH, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(vocab_size=20, **sizes)).save_pretrained(folder)


def save_tokenizer(folder: Path, words: list[str]) -> None:
    vocabulary = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.fixture
def t5(tmp_path: Path) -> Path:
    save_model(tmp_path / "t5", seed=0)
    save_tokenizer(tmp_path / "t5", WORDS)
    return tmp_path / "t5"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset"
    (folder / "reports").mkdir(parents=True)
    cases = []
    for case_id, text in REPORTS.items():
        report = None if text is None else f"reports/{case_id}.txt"
        texts = {} if report is None else {"report": report}
        for path in texts.values():
            (folder / path).write_text(str(text))
        cases.append(Case(id=case_id, group=case_id, images={}, texts=texts, split="train"))
    Manifest(folder, cases).write()
    return folder


def settings(t5: Path, encoder: dict[str, Any] | None = None, **changes: Any) -> Text:
    component = {"name": "t5", "path": t5, "device": "cpu"} | (encoder or {})
    return Text.model_validate({"encoder": component, "width": WIDTH, "max_tokens": 16} | changes)


def encode(wanted: Text, dataset: Path, folder: Path) -> TextCache:
    TextEncoding(wanted, read_reports(Manifest.read(dataset)), folder).run(rank=0, world=1)
    return TextCache.open(folder, wanted)


def other_weights(t5: Path) -> dict[str, Any]:
    save_model(t5, seed=1)
    return {}


def other_tokenizer(t5: Path) -> dict[str, Any]:
    save_tokenizer(t5, [*WORDS, "added"])
    return {}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (other_weights, r"encoder weights [0-9a-f]{12}\.\.\., the recipe says [0-9a-f]{12}\.\.\."),
        (other_tokenizer, r"encoder tokenizer [0-9a-f]{12}\.\.\., the recipe says [0-9a-f]{12}"),
        (
            lambda t5: {"dtype": "float32", "encoder": {"dtype": "bfloat16"}},
            r"dtype 'bfloat16', the recipe says 'float32'",
        ),
        (lambda t5: {"dtype": "compact"}, r"dtype 'bfloat16', the recipe says 'compact'"),
        (lambda t5: {"truncation": "left"}, r"truncation 'right', the recipe says 'left'"),
        (lambda t5: {"padding": "max"}, r"padding 'none', the recipe says 'max'"),
        (lambda t5: {"max_tokens": 32}, r"max_tokens 16, the recipe says 32"),
        (
            lambda t5: {"encoder": {"dtype": "float32"}},
            r"encoder dtype 'bfloat16', the recipe says 'float32'",
        ),
    ],
)
def test_features_made_otherwise_are_refused_with_the_reason(
    t5: Path, dataset: Path, tmp_path: Path, change: Callable[[Path], dict[str, Any]], told: str
) -> None:
    folder = tmp_path / "text"
    encode(settings(t5), dataset, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wanted = settings(t5, **change(t5))
    with pytest.raises(UserError, match=told) as caught:
        encode(wanted, dataset, folder)
    # This one reason and no other, and the next command.
    assert caught.value.problem.count("were made with") == 1
    assert f"rm -r {folder}" in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_where_the_weights_lie_does_not_matter(t5: Path, dataset: Path, tmp_path: Path) -> None:
    key = encode(settings(t5), dataset, tmp_path / "text").key
    moved = t5.rename(tmp_path / "elsewhere")
    assert encode(settings(moved), dataset, tmp_path / "text").key == key


def test_an_unfinished_cache_of_other_settings_is_refused_too(
    t5: Path, dataset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "text"
    encode(settings(t5), dataset, folder)
    for name in ("index.json", "stage.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="truncation"):
        encode(settings(t5, truncation="left"), dataset, folder)
    assert list(folder.glob("*.safetensors"))


def paper_recipe(monkeypatch: pytest.MonkeyPatch, *words: str) -> Recipe:
    """Return the recipe that ``voxella encode ... --paper-mode`` hands to the stages."""
    handed: list[Recipe] = []

    def stages(recipe: Recipe, run: Path, **options: Any) -> None:
        handed.append(recipe)
        raise UserError("far enough")

    monkeypatch.setattr("voxella.pipeline.run.run_stages", stages)
    recipe = str(REPOSITORY / "recipes" / "ccella.yaml")
    main(["encode", recipe, "--profile", "smoke", "--paper-mode", *words])
    return handed[0]


def test_paper_mode_writes_the_released_features(
    t5: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 rows whatever the report, padding among them; a long report keeps its end; float32."""
    encoder = json.dumps({"name": "t5", "path": str(t5), "device": "cpu"})
    given = ("--set", f"text.encoder={encoder}", "--set", f"text.width={WIDTH}")
    wanted = paper_recipe(monkeypatch, *given).text
    assert wanted is not None
    cache = encode(wanted, dataset, tmp_path / "text")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(t5, truncation_side="left")
    theirs = T5EncoderModel.from_pretrained(t5).eval()
    for case_id, text in REPORTS.items():
        tokens = tokenizer(
            text or "", max_length=512, padding="max_length", truncation=True, return_tensors="pt"
        )
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        with torch.no_grad():
            released = theirs(input_ids=ids, attention_mask=mask).last_hidden_state[0]
        found, _ = cache.read(case_id)
        assert found.dtype == torch.float32
        assert found.shape == (512, WIDTH)
        torch.testing.assert_close(found, released, rtol=1e-5, atol=1e-6)
    assert cache.truncated == {"reports": 1, "tokens": 601 - 512}
    released_recipe = paper_recipe(monkeypatch, *given, "--set", "text.dtype=bfloat16").text
    assert released_recipe is not None
    assert released_recipe.dtype == "bfloat16", "--set wins"


def test_a_refusal_tells_the_settings_that_take_the_features_as_they_are(
    t5: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoded with --paper-mode, then trained without: the message holds what is missing."""
    encoder = json.dumps({"name": "t5", "path": str(t5), "device": "cpu"})
    given = [f"text.encoder={encoder}", f"text.width={WIDTH}"]
    wanted = paper_recipe(monkeypatch, "--set", given[0], "--set", given[1]).text
    assert wanted is not None
    encode(wanted, dataset, tmp_path / "text")

    def recipe_text(*more: str) -> Text:
        path = str(REPOSITORY / "recipes" / "ccella.yaml")
        found = load_recipe(path, ["smoke"], [*given, *more]).text
        assert found is not None
        return found

    asks: tuple[Callable[[], object], ...] = (
        lambda: encode(recipe_text(), dataset, tmp_path / "text"),
        lambda: TextCache.open(tmp_path / "text", recipe_text()),
    )
    for ask in asks:
        with pytest.raises(UserError) as caught:
            ask()
        told = re.findall(r"--set (\S+=\S+)", str(caught.value.remedy))
        assert {"text.max_tokens=512", "text.truncation=left"} <= set(told)
        assert recipe_text(*told) == wanted
        assert encode(recipe_text(*told), dataset, tmp_path / "text").truncated["reports"] == 1
    # No setting turns one encoder into another.
    save_model(t5, seed=1)
    with pytest.raises(UserError) as caught:
        encode(recipe_text(), dataset, tmp_path / "text")
    assert "--set" not in str(caught.value.remedy)


def test_paper_mode_needs_text_and_a_float32_encoder(capfd: pytest.CaptureFixture[str]) -> None:
    recipes = REPOSITORY / "recipes"
    said = refused(
        capfd, "encode", str(recipes / "base.yaml"), "--paper-mode", "--set", "text=null"
    )
    assert "recipe base reads no text" in said
    half = ("--set", "text.encoder.dtype=bfloat16")
    said = refused(capfd, "encode", str(recipes / "ccella.yaml"), "--paper-mode", *half)
    assert "in float32, the recipe in bfloat16" in said
    assert "next:     --set text.encoder.dtype=float32" in said
    with pytest.raises(SystemExit):
        main(["train", str(recipes / "ccella.yaml"), "--paper-mode"])


def test_words_lost_are_told_and_kept_by_case(
    t5: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / "reports" / "a.txt").write_text("tumor lesion gross apex")
    encode(settings(t5), dataset, tmp_path / "text")
    told = capsys.readouterr()
    assert (
        "1 of 2 reports lose words or signs that the encoder does not know (<unk>), 2 in all"
        in (told.out + told.err)
    )
    index = json.loads((tmp_path / "text" / "index.json").read_text())
    assert {name: case["unknown"] for name, case in index["cases"].items()} == {
        "a": 2, "b": 0, "c": 0,
    }  # fmt: skip


def test_markers_are_left_out_of_features_and_named_in_their_key(
    t5: Path, dataset: Path, tmp_path: Path
) -> None:
    (dataset / "reports" / "a.txt").write_text("lesion ___ left [NAME] apex XXXX")
    kept = encode(settings(t5), dataset, tmp_path / "kept")
    left_out = settings(t5, replace_markers=True)
    replaced = encode(left_out, dataset, tmp_path / "replaced")
    (dataset / "reports" / "a.txt").write_text("lesion left apex")
    plain = encode(settings(t5), dataset, tmp_path / "plain")
    assert torch.equal(replaced.read("a")[0], plain.read("a")[0])
    assert kept.length("a") > replaced.length("a") == 4
    assert torch.equal(replaced.empty, plain.empty)
    assert replaced.fingerprint != plain.fingerprint
    # Neither is taken for the other, and nothing is overwritten.
    with pytest.raises(UserError, match="replace_markers False, the recipe says True"):
        TextCache.open(tmp_path / "plain", left_out)
    with pytest.raises(UserError, match="replace_markers True, the recipe says False") as caught:
        encode(settings(t5), dataset, tmp_path / "replaced")
    assert "--set text.replace_markers=True" in str(caught.value.remedy)
    # Placeholders are none here as everywhere.
    (dataset / "reports" / "a.txt").write_text("nan")
    assert not encode(settings(t5), dataset, tmp_path / "none").has_report("a")


def test_features_from_before_markers_could_be_left_out_are_taken(
    t5: Path, dataset: Path, tmp_path: Path
) -> None:
    encode(settings(t5), dataset, tmp_path / "text")
    origin = json.loads((tmp_path / "text" / "made_with.json").read_text())
    index = json.loads((tmp_path / "text" / "index.json").read_text())
    assert "replace_markers" not in origin["settings"]
    assert "replace_markers" not in index["settings"]
    for case in index["cases"].values():
        del case["unknown"]
    # Nor had files a seal, or records the hashes of files.
    del index["seal"]
    (tmp_path / "text" / "stage.json").unlink()
    (tmp_path / "text" / "index.json").write_text(json.dumps(index))
    assert TextCache.open(tmp_path / "text", settings(t5)).has_report("a")
