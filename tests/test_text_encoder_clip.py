"""CLIP's text encoder: both masks, positions that begin again, folders of every kind."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from voxella.errors import UserError
from voxella.testing.text_encoders import TextEncoderContract
from voxella_conditioners.clip_text import repeat_positions
from voxella_conditioners.text_encoder import TokenEncoder
from voxella_conditioners.text_plugin import clip

TOKENIZER = Path(__file__).parents[2] / "shared" / "data" / "histology" / "tokenizer_clip"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WIDTH, HEADS, LAYERS = 16, 2, 2
SHORT, LONG = "low tumor; high til", "low tumor; high til; " + "ductal carcinoma, " * 5


def _letters() -> list[str]:
    """CLIP's 256 signs for bytes; a printable sign stands for itself."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return [chr(b) for b in own] + [chr(256 + n) for n in range(len(others))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP whose tokens are letters."""
    path = tmp_path_factory.mktemp("clip")
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), BEGIN, END]
    (path / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    # PLIP's names no model_max_length.
    special = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END}
    (path / "tokenizer_config.json").write_text(
        json.dumps({**special, "tokenizer_class": "CLIPTokenizer"})
    )
    torch.manual_seed(3)
    model = CLIPTextModel(_config(len(words)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(path)
    return path


def _config(vocabulary: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )


def _clip(path: Path, max_tokens: int = 154, **changes: Any) -> TokenEncoder:
    settings: dict[str, Any] = {"truncation": "right", "padding": "none", "device": "cpu"}
    if max_tokens > 77:
        settings["cyclic"] = True
    encoder = clip(path=path, max_tokens=max_tokens, **(settings | changes))
    assert isinstance(encoder, TokenEncoder)
    return encoder


def _by_formula(state: dict[str, Tensor], ids: list[int], real: int) -> Tensor:
    """PathLDM's encoder: positions modulo 77, the causal mask PLUS the mask of padding."""
    state = {name.removeprefix("text_model."): value for name, value in state.items()}

    def linear(name: str, x: Tensor) -> Tensor:
        return nn.functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return nn.functional.layer_norm(x, (WIDTH,), weight, bias, 1e-5)

    def split(x: Tensor) -> Tensor:
        return x.reshape(len(ids), HEADS, -1).transpose(0, 1)

    places = torch.arange(len(ids)) % 77
    x = state["embeddings.token_embedding.weight"][torch.tensor(ids)]
    x = x + state["embeddings.position_embedding.weight"][places]
    hidden = torch.full((len(ids), len(ids)), -1e9).triu(1)
    hidden[:, real:] += -1e9
    for layer in (f"encoder.layers.{n}" for n in range(LAYERS)):
        h = norm(f"{layer}.layer_norm1", x)
        q, k, v = (split(linear(f"{layer}.self_attn.{n}_proj", h)) for n in "qkv")
        weights = (q @ k.transpose(1, 2) / math.sqrt(WIDTH / HEADS) + hidden).softmax(dim=-1)
        joined = (weights @ v).transpose(0, 1).reshape(len(ids), WIDTH)
        x = x + linear(f"{layer}.self_attn.out_proj", joined)
        h = linear(f"{layer}.mlp.fc1", norm(f"{layer}.layer_norm2", x))
        x = x + linear(f"{layer}.mlp.fc2", h * torch.sigmoid(1.702 * h))
    return norm("final_layer_norm", x)


def _ids(path: Path, text: str, length: int = 0) -> tuple[list[int], int]:
    vocabulary = json.loads((path / "vocab.json").read_text())
    words = text.replace(";", " ;").replace(",", " ,").split()
    letters = [c if n < len(w) - 1 else f"{c}</w>" for w in words for n, c in enumerate(w)]
    ids = [vocabulary[token] for token in (BEGIN, *letters, END)]
    return ids + [vocabulary[END]] * (length - len(ids)), len(ids)


@pytest.mark.parametrize("text", [SHORT, LONG, ""])
def test_features_are_the_released_codes(folder: Path, text: str) -> None:
    state = load_file(folder / "model.safetensors")
    ids, real = _ids(folder, text, length=154)
    assert (real > 77) == (text == LONG), "the long text runs into the second turn"
    expected = _by_formula(state, ids, real)
    (padded,) = _clip(folder, padding="max").encode([text])
    assert padded.shape == (154, WIDTH)
    torch.testing.assert_close(padded, expected, atol=1e-5, rtol=0)
    # Padding stands behind and is masked: the true tokens' features are the same without it.
    (bare,) = _clip(folder).encode([text])
    torch.testing.assert_close(bare, expected[:real], atol=1e-5, rtol=0)


def test_a_text_that_fits_is_encoded_the_same_with_and_without_turns(folder: Path) -> None:
    one, two = _clip(folder, max_tokens=77), _clip(folder)
    torch.testing.assert_close(one.encode([SHORT])[0], two.encode([SHORT])[0])
    assert one.fingerprint != two.fingerprint
    # Nothing is repeated below 77, so there the switch decides nothing.
    assert one.fingerprint == _clip(folder, max_tokens=77, cyclic=True).fingerprint


@pytest.mark.parametrize(
    ("max_tokens", "cyclic", "words"),
    [
        (
            154,
            False,
            r"max_tokens=154, and the model has 77 positions\n  expected: 3 to 77\n.*cyclic",
        ),
        (
            155,
            True,
            r"max_tokens=155, .*\n  expected: 3 to 154\n  next:     --set text\.max_tokens=154",
        ),
        (2, True, "expected: 3 to 154"),
    ],
)
def test_more_tokens_than_positions_are_refused_with_the_remedy(
    folder: Path, max_tokens: int, cyclic: bool, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        _clip(folder, max_tokens=max_tokens, cyclic=cyclic)


def test_a_long_text_keeps_begin_and_end(folder: Path) -> None:
    encoder = _clip(folder, padding="max")
    text = LONG * 3
    assert encoder.token_counts([text])[0] > 154
    ids, _ = _ids(folder, text)
    expected = _by_formula(load_file(folder / "model.safetensors"), [*ids[:153], ids[-1]], real=154)
    torch.testing.assert_close(encoder.encode([text])[0], expected, atol=1e-5, rtol=0)


def test_counting_reads_no_weights(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    expected = _clip(folder).token_counts([SHORT, LONG])
    (copy / "model.safetensors").write_bytes(b"damaged")
    assert _clip(copy, tokens_only=True).token_counts([SHORT, LONG]) == expected


def test_folders_of_a_whole_clip_and_of_the_former_names_give_the_same(
    folder: Path, tmp_path: Path
) -> None:
    expected = _clip(folder).encode([LONG])[0]
    text = CLIPTextModel.from_pretrained(folder)
    whole = CLIPModel(CLIPConfig(text_config=text.config.to_dict(), projection_dim=8))
    state = {n.removeprefix("text_model."): v for n, v in text.state_dict().items()}
    held: Any = getattr(whole.text_model, "text_model", whole.text_model)
    held.load_state_dict(state, strict=True)
    other = shutil.copytree(folder, tmp_path / "whole")
    (other / "model.safetensors").unlink()
    whole.save_pretrained(other)
    torch.testing.assert_close(_clip(other).encode([LONG])[0], expected)
    former = shutil.copytree(folder, tmp_path / "former")
    save_file({f"text_model.{n}": v for n, v in state.items()}, former / "model.safetensors")
    torch.testing.assert_close(_clip(former).encode([LONG])[0], expected)


def test_names_that_would_load_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    # As in a checkpoint of PathLDM; transformers alone would go on with random weights.
    spoilt = shutil.copytree(folder, tmp_path / "spoilt")
    state = load_file(folder / "model.safetensors")
    prefix = "cond_stage_model.transformer.text_model."
    save_file({prefix + n: v for n, v in state.items()}, spoilt / "model.safetensors")
    with pytest.raises(UserError, match=r"lack \d+ tensors"):
        _clip(spoilt)


def test_another_kind_of_model_is_sent_on(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"model_type": "bert"}))
    with pytest.raises(UserError, match=r"model of type bert(.|\n)*text encoder hf"):
        _clip(other)


def test_parameters_are_as_many_as_released() -> None:
    config = CLIPTextConfig(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8
    )
    with torch.device("meta"):
        model = CLIPTextModel(config)
    assert sum(p.numel() for p in model.parameters()) == 63_165_952
    repeat_positions(model, 2)
    assert sum(p.numel() for p in model.parameters()) == 63_205_376


@pytest.mark.skipif(not TOKENIZER.is_dir(), reason="CLIP's vocabulary is not here")
class TestClip(TextEncoderContract):
    """The contract, with CLIP's own vocabulary and a small random network."""

    plugin = "clip"
    arguments: ClassVar[dict[str, Any]] = {"cyclic": True}

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        if "path" in self.arguments:
            return
        path = tmp_path_factory.mktemp("real") / "clip"
        shutil.copytree(TOKENIZER, path)
        path.chmod(0o755)
        torch.manual_seed(0)
        CLIPTextModel(_config(49408)).save_pretrained(path)
        self.arguments["path"] = path
