"""Text encoders t5 and hf on small random models, saved as the real ones are."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoModel,
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from voxella.errors import UserError
from voxella.plugins.contracts import TextEncoder
from voxella_conditioners.text_plugin import voxella_factory

WORDS = "prostate lesion left right apex base zone peripheral score one two three".split()
SPECIALS = ["<pad>", "</s>", "<unk>", "<s>"]
TEXTS = ["lesion left", "", "peripheral zone lesion right base score three", "apex"]
TOKENIZERS = Path(__file__).parents[2] / "shared" / "data" / "tokenizers"
WIDTH = 16


def _save_tokenizer(folder: Path, template: str) -> None:
    """Write a word-level tokenizer whose special tokens follow ``template``."""
    vocabulary = {word: index for index, word in enumerate(SPECIALS + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        named = [(token, vocabulary[token]) for token in ("<s>", "</s>")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=named
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def _t5_config(**changes: int) -> T5Config:
    sizes = {"vocab_size": 20, "d_model": WIDTH, "d_kv": 4, "d_ff": 32, "num_heads": 2}
    # FLAN-T5's form: gated feed-forward, embeddings apart from the output layer.
    return T5Config(
        **{**sizes, "num_layers": 2, **changes},
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    T5ForConditionalGeneration(_t5_config()).save_pretrained(folder)
    _save_tokenizer(folder, "$A </s>")
    return folder


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=20,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=10,
        )
    ).save_pretrained(folder)
    _save_tokenizer(folder, "<s> $A </s>")
    return folder


@pytest.fixture(params=["t5", "hf"])
def encoder_folder(
    request: pytest.FixtureRequest, t5_folder: Path, bert_folder: Path
) -> tuple[str, Path]:
    return request.param, {"t5": t5_folder, "hf": bert_folder}[request.param]


def _build(name: str, path: Path, **changes: Any) -> TextEncoder:
    settings = {"max_tokens": 8, "truncation": "right", "padding": "none", "device": "cpu"} | {
        "dtype": "float32"
    }
    builder = voxella_factory(name)
    assert builder is not None
    built = builder(path=path, **{**settings, **changes})
    assert isinstance(built, TextEncoder)
    return built


def _ids(text: str, name: str) -> list[int]:
    words = [(SPECIALS + WORDS).index(word) for word in text.split()]
    return ([3] if name == "hf" else []) + words + [1]


def _alone(name: str, folder: Path, ids: list[int]) -> Tensor:
    """Encode one row without padding or mask, through transformers itself."""
    family = T5EncoderModel if name == "t5" else AutoModel
    model = family.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden: Tensor = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return hidden


def test_features_are_those_of_the_text_alone_at_its_true_length(
    encoder_folder: tuple[str, Path],
) -> None:
    name, folder = encoder_folder
    encoder = _build(name, folder, max_tokens=10)
    features = encoder.encode(TEXTS)
    assert encoder.width == WIDTH
    for text, feature in zip(TEXTS, features, strict=True):
        expected = _alone(name, folder, _ids(text, name))
        assert feature.shape == (len(_ids(text, name)), WIDTH)
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_results_do_not_depend_on_the_batch(
    encoder_folder: tuple[str, Path], batch_size: int
) -> None:
    name, folder = encoder_folder
    together = _build(name, folder).encode(TEXTS)
    apart = _build(name, folder, batch_size=batch_size).encode(TEXTS[::-1])[::-1]
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_max_padding_keeps_the_padded_positions(encoder_folder: tuple[str, Path]) -> None:
    name, folder = encoder_folder
    plain = _build(name, folder).encode(TEXTS)
    padded = _build(name, folder, padding="max").encode(TEXTS)
    for short, full in zip(plain, padded, strict=True):
        assert full.shape == (8, WIDTH)
        torch.testing.assert_close(full[: len(short)], short, rtol=1e-4, atol=1e-5)
        assert bool(full[len(short) :].any(dim=1).all())  # not zeros: what the encoder returns


@pytest.mark.parametrize("side", ["right", "left"])
def test_truncation_cuts_the_named_end_and_keeps_the_special_tokens(
    encoder_folder: tuple[str, Path], side: str
) -> None:
    name, folder = encoder_folder
    text = "peripheral zone lesion right base score three"
    room = 5 - (2 if name == "hf" else 1)
    words = text.split()
    kept = " ".join(words[:room] if side == "right" else words[-room:])
    (feature,) = _build(name, folder, max_tokens=5, truncation=side).encode([text])
    expected = _alone(name, folder, _ids(kept, name))
    torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)


def test_token_counts_are_before_truncation(encoder_folder: tuple[str, Path]) -> None:
    name, folder = encoder_folder
    encoder = _build(name, folder, max_tokens=3)
    long = "lesion " * 40
    extra = 2 if name == "hf" else 1
    assert encoder.token_counts([long, "", "apex"]) == [40 + extra, extra, 1 + extra]
    assert [len(f) for f in encoder.encode([long, "", "apex"])] == [3, extra, min(3, 1 + extra)]
    assert encoder.encode([]) == []
    assert encoder.token_counts([]) == []


def test_an_empty_report_has_a_row_without_special_tokens_too(
    bert_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "plain")
    for file in folder.glob("*token*"):
        file.unlink()
    _save_tokenizer(folder, "")
    encoder = _build("hf", folder)
    assert [tuple(f.shape) for f in encoder.encode(["", "lesion left"])] == [(1, WIDTH), (2, WIDTH)]


def test_the_encoder_is_the_same_whether_its_folder_holds_the_decoder(
    t5_folder: Path, tmp_path: Path
) -> None:
    T5EncoderModel.from_pretrained(t5_folder).save_pretrained(tmp_path)
    _save_tokenizer(tmp_path, "$A </s>")
    assert (tmp_path / "model.safetensors").stat().st_size < (
        t5_folder / "model.safetensors"
    ).stat().st_size
    for a, b in zip(
        _build("t5", t5_folder).encode(TEXTS), _build("t5", tmp_path).encode(TEXTS), strict=True
    ):
        assert torch.equal(a, b)


def test_sharded_weights_are_read(t5_folder: Path, tmp_path: Path) -> None:
    model = T5ForConditionalGeneration.from_pretrained(t5_folder)
    model.save_pretrained(tmp_path, max_shard_size="8KB")
    _save_tokenizer(tmp_path, "$A </s>")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    sharded, whole = _build("t5", tmp_path), _build("t5", t5_folder)
    assert torch.equal(sharded.encode(TEXTS)[2], whole.encode(TEXTS)[2])


def _bart() -> BartModel:
    return BartModel(
        BartConfig(
            vocab_size=20,
            d_model=WIDTH,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_position_embeddings=12,
        )
    )


def _roberta() -> RobertaModel:
    return RobertaModel(
        RobertaConfig(
            vocab_size=20,
            hidden_size=WIDTH,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            pad_token_id=0,
            max_position_embeddings=13,
        )
    )


def _clip() -> CLIPModel:
    text = {
        "vocab_size": 20,
        "hidden_size": WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "eos_token_id": 1,
    }
    vision = {**text, "image_size": 4, "patch_size": 2}
    vision.pop("vocab_size")
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision))


@pytest.mark.parametrize("make", [_bart, _roberta, _clip])
def test_hf_takes_the_text_encoder_of_other_families(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = make().eval()
    model.save_pretrained(tmp_path)
    _save_tokenizer(tmp_path, "<s> $A </s>")
    encoder = _build("hf", tmp_path, max_tokens=12)
    text = "peripheral zone lesion right base score three"
    part = model.encoder if make is _bart else getattr(model, "text_model", model)
    with torch.no_grad():
        expected = part(input_ids=torch.tensor([_ids(text, "hf")])).last_hidden_state[0]
    torch.testing.assert_close(encoder.encode(["", text])[1], expected, rtol=1e-4, atol=1e-5)
    assert encoder.width == WIDTH
    with pytest.raises(UserError, match=r"max_tokens=13\n  expected: 3 to 12, its positions"):
        _build("hf", tmp_path, max_tokens=13)


def test_bert_refuses_more_tokens_than_it_has_positions(bert_folder: Path) -> None:
    with pytest.raises(UserError, match=r"hf: max_tokens=11\n  expected: 3 to 10, its positions"):
        _build("hf", bert_folder, max_tokens=11)


def test_t5_takes_any_length(t5_folder: Path) -> None:
    encoder = _build("t5", t5_folder, max_tokens=700)
    assert encoder.encode(["lesion " * 650])[0].shape == (651, WIDTH)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_dtype_is_that_of_the_features(t5_folder: Path, dtype: str) -> None:
    full = _build("t5", t5_folder).encode(TEXTS)[2]
    low = _build("t5", t5_folder, dtype=dtype).encode(TEXTS)[2]
    assert low.dtype == getattr(torch, dtype)
    torch.testing.assert_close(low.float(), full, rtol=0.1, atol=0.05)


def test_the_fingerprint_covers_weights_tokenizer_and_settings(
    t5_folder: Path, tmp_path: Path
) -> None:
    reference = _build("t5", t5_folder).fingerprint
    moved = shutil.copytree(t5_folder, tmp_path / "moved")
    assert _build("t5", moved).fingerprint == reference
    assert _build("t5", t5_folder, batch_size=3).fingerprint == reference

    settings: list[dict[str, Any]] = [
        {"max_tokens": 7},
        {"truncation": "left"},
        {"padding": "max"},
        {"dtype": "bfloat16"},
    ]
    seen = {reference} | {_build("t5", t5_folder, **change).fingerprint for change in settings}
    T5ForConditionalGeneration(_t5_config()).save_pretrained(moved)  # other random weights
    seen.add(_build("t5", moved).fingerprint)
    _save_tokenizer(moved, "$A </s> </s>")
    seen.add(_build("t5", moved).fingerprint)
    assert len(seen) == 7


@pytest.mark.parametrize("truncation", ["right", "left"])
def test_a_sentencepiece_file_is_tokenizer_enough(tmp_path: Path, truncation: str) -> None:
    source = TOKENIZERS / "torchtune" / "sentencepiece.model"
    if not source.is_file():
        pytest.skip(f"{source} is not here")
    sentencepiece = pytest.importorskip("sentencepiece")
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(source))
    T5ForConditionalGeneration(_t5_config(vocab_size=32_128)).save_pretrained(tmp_path)
    shutil.copy(source, tmp_path / "spiece.model")

    report = "PI-RADS 4 lesion in the left peripheral zone, 12 mm, no extension."
    expected = [*pieces.encode(report), pieces.eos_id()]
    encoder = _build("t5", tmp_path, max_tokens=8, truncation=truncation)
    assert encoder.token_counts([report, ""]) == [len(expected), 1]
    kept = expected[:7] if truncation == "right" else expected[-8:-1]
    (feature,) = encoder.encode([report])
    wanted = _alone("t5", tmp_path, [*kept, pieces.eos_id()])
    torch.testing.assert_close(feature, wanted, rtol=1e-4, atol=1e-5)


def test_nothing_asks_the_network(t5_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(_build("t5", t5_folder).encode(["lesion"])) == 1


def test_unknown_words_are_counted(t5_folder: Path, bert_folder: Path) -> None:
    texts = ["lesion left", "", "tumor lesion gross", "<unk>"]
    for name, path in (("t5", t5_folder), ("hf", bert_folder)):
        encoder: Any = _build(name, path)
        assert encoder.unknown_counts(texts) == [0, 0, 2, 1]
        assert encoder.unknown_counts([]) == []


@pytest.mark.skipif(not TOKENIZERS.is_dir(), reason=f"{TOKENIZERS} is absent")
def test_the_t5_vocabulary_loses_chinese_and_greek(tmp_path: Path) -> None:
    """Against sentencepiece itself: how many pieces of each text have its number of ``<unk>``."""
    import sentencepiece

    model = TOKENIZERS / "torchtune" / "sentencepiece.model"
    T5EncoderModel(_t5_config(vocab_size=32_128)).save_pretrained(tmp_path)
    shutil.copy(model, tmp_path / "spiece.model")
    texts = [
        "Lesion left apex.",
        "Läsion größer",
        "前列腺左侧外周带见结节",
        "Βλάβη στην αριστερή ζώνη.",
    ]
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    wanted = [pieces.encode(text).count(pieces.unk_id()) for text in texts]
    encoder: Any = _build("t5", tmp_path)
    assert encoder.unknown_counts(texts) == wanted
    assert wanted[:2] == [0, 0]
    assert all(wanted[2:])
