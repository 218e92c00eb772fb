"""An encoder that is larger than memory: streamed, of fewer bits, loaded once a host, or not."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from shell import environment
from test_text_encoders import SPECIALS, TEXTS, WORDS, _save_tokenizer, _t5_config
from torch import nn
from transformers import T5EncoderModel, T5ForConditionalGeneration

from voxella.cache import text_encoder
from voxella.cache.text import TextCache
from voxella.cache.text_encoder import build_text_encoder
from voxella.errors import UserError
from voxella.recipe.model import Text
from voxella_conditioners import text_models, text_stream
from voxella_conditioners.text_plugin import voxella_factory
from voxella_conditioners.text_stream import StoredWeights, stream_blocks

BLOCKS = 3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model, decoder included, in both forms in which FLAN-T5 XXL is published, in shards."""
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(_t5_config(num_layers=BLOCKS))
    root = tmp_path_factory.mktemp("forms")
    shards, pickled = root / "safetensors", root / "bin"
    model.save_pretrained(shards, max_shard_size="8KB")
    assert len(list(shards.glob("model-*.safetensors"))) > 2
    model.config.save_pretrained(pickled)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(state, pickled / "pytorch_model.bin")
    for folder in (shards, pickled):
        _save_tokenizer(folder, "$A </s>")
    return {"safetensors": shards, "bin": pickled}


def _build(path: Path, **changes: Any) -> Any:
    settings = {"max_tokens": 8, "truncation": "right", "padding": "none", "device": "cpu"}
    builder = voxella_factory("t5")
    assert builder is not None
    return builder(path=path, **{**settings, "batch_size": 2, **changes})


def _recipe_text(path: Path, encoder: dict[str, Any] | None = None, **changes: Any) -> Text:
    component = {"name": "t5", "path": path, "device": "cpu"} | (encoder or {})
    return Text.model_validate({"encoder": component, "width": 16, "max_tokens": 8} | changes)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_streamed_encoder_returns_what_the_whole_one_does_bit_for_bit(
    folders: dict[str, Path], form: str, dtype: str
) -> None:
    whole = _build(folders["safetensors"], dtype=dtype, stream="never")
    streamed = _build(folders[form], dtype=dtype, stream="always")
    for _ in range(2):  # blocks come back after they have gone
        for a, b in zip(whole.encode(TEXTS), streamed.encode(TEXTS), strict=True):
            assert torch.equal(a, b)
    assert _build(folders[form], dtype=dtype, stream="never").fingerprint == streamed.fingerprint


def _present(block: nn.Module) -> bool:
    return not any(parameter.is_meta for parameter in block.parameters())


def test_one_block_is_in_memory_at_a_time(folders: dict[str, Path]) -> None:
    path = folders["safetensors"]
    with torch.device("meta"):
        model = T5EncoderModel(_t5_config(num_layers=BLOCKS)).eval()
    blocks = model.encoder.block
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    float32 = dict.fromkeys(names, torch.float32)
    stored = StoredWeights(sorted(path.glob("*.safetensors")))
    assert stream_blocks(model, stored, torch.device("cpu"), float32) == []
    assert _present(model.shared)
    assert _present(model.encoder.final_layer_norm)
    assert not any(map(_present, blocks))
    seen: list[list[bool]] = []
    for block in blocks:
        block.layer[0].register_forward_hook(lambda *_: seen.append([*map(_present, blocks)]))
    ids = torch.tensor([[(SPECIALS + WORDS).index("lesion"), 1]])
    with torch.no_grad():
        model(input_ids=ids)
    assert seen == [[n == k for n in range(BLOCKS)] for k in range(BLOCKS)]
    assert not any(map(_present, blocks))


def test_tied_weights_are_read_once(folders: dict[str, Path]) -> None:
    encoder = _build(folders["safetensors"], stream="always")
    model = encoder._model
    assert model.shared.weight.data_ptr() == model.encoder.embed_tokens.weight.data_ptr()


def test_weights_that_a_streamed_model_lacks_are_named(tmp_path: Path) -> None:
    T5EncoderModel(_t5_config()).save_pretrained(tmp_path)
    _t5_config(num_layers=3).save_pretrained(tmp_path)  # one block more than there are weights for
    _save_tokenizer(tmp_path, "$A </s>")
    with pytest.raises(UserError, match=r"lack 9 tensors, such as encoder\.block\.2\."):
        _build(tmp_path, stream="always")


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_a_cut_file_is_a_message_where_it_is_streamed_too(
    folders: dict[str, Path], tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in folders[form].iterdir():
        data = file.read_bytes()
        is_weights = file.suffix in (".safetensors", ".bin")
        (folder / file.name).write_bytes(data[: len(data) // 2] if is_weights else data)
    with pytest.raises(UserError, match="cannot be loaded"):
        _build(folder, stream="always")


def test_auto_streams_where_the_whole_does_not_fit(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outline = T5EncoderModel(_t5_config(num_layers=BLOCKS))
    weights = 2 * sum(parameter.numel() for parameter in outline.parameters())
    # Batch 2, 8 tokens, 2 heads, feed-forward 32 wide: the formula of the docs by hand.
    need = weights + 4 * 2 * 8 * 3 * (2 * 8 + 32)
    for free, streamed in ((need, False), (need - 1, True)):
        monkeypatch.setattr(text_stream, "available_bytes", lambda *_, free=free, **__: free)
        encoder = _build(folders["safetensors"], stream="auto")
        is_streamed = not _present(encoder._model.encoder.block[0])
        assert is_streamed is streamed
        assert ("one after another" in capsys.readouterr().out) is streamed


def test_weights_are_read_for_features_and_not_for_counting_tokens(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folders["safetensors"]
    counts = build_text_encoder(_recipe_text(path)).token_counts(TEXTS)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(T5EncoderModel, "from_pretrained", refuse)
    monkeypatch.setattr(text_models, "StoredWeights", refuse)
    hashed: list[Path] = []

    def hashing(file: Path) -> str:
        hashed.append(file)
        return "0"

    monkeypatch.setattr("voxella_conditioners.text_folder.sha256_file", hashing)
    encoder = build_text_encoder(_recipe_text(path), tokens_only=True)
    assert encoder.token_counts(TEXTS) == counts
    assert not [file for file in hashed if file.suffix == ".safetensors"]


@pytest.mark.parametrize(
    ("stored", "told", "computed"),
    [
        ("bfloat16", None, "bfloat16"),
        ("compact", None, "bfloat16"),
        ("float32", None, "float32"),
        ("bfloat16", "float32", "float32"),
    ],
)
def test_the_encoder_computes_in_what_its_features_are_stored_in(
    folders: dict[str, Path], stored: str, told: str | None, computed: str
) -> None:
    encoder = {} if told is None else {"dtype": told}
    built = build_text_encoder(_recipe_text(folders["safetensors"], encoder, dtype=stored))
    assert built.encode(["lesion"])[0].dtype == getattr(torch, computed)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"quantize": "int8"}, "absent: bitsandbytes"),
        ({"quantize": "int4"}, "quantize=int4"),
        ({"stream": "sometimes"}, "stream=sometimes"),
        ({"quantize": "int8", "stream": "always"}, "one of the two"),
    ],
)
def test_what_cannot_be_is_a_message(
    folders: dict[str, Path], changes: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "bitsandbytes" else find(name, *more),
    )
    with pytest.raises(UserError, match=told):
        _build(folders["safetensors"], **changes)


_JOB = """
import sys
from pathlib import Path
import torch
from voxella.engine import runtime
from voxella.ranks import Ranks
from voxella.plugins import registry
from voxella.recipe.model import Text
from voxella.cache.encode_text import TextEncoding

ranks, work = Ranks.from_environment(), Path(sys.argv[1])
torch.distributed.init_process_group("gloo")  # without seconds of DeepSpeed
runtime._patient_group.append(torch.distributed.group.WORLD)

class Counting:
    width, fingerprint = 2, "f" * 64
    def encode(self, texts):
        (work / f"encoded-{ranks.rank}").open("a").write(f"{len(texts)}\\n")
        return [torch.full((1, 2), float(len(text))) for text in texts]
    def token_counts(self, texts):
        return [1] * len(texts)

def build(*, max_tokens: int):
    (work / f"loaded-{ranks.rank}").touch()
    return Counting()

registry.builder = lambda kind, name: build
text = Text.model_validate({"encoder": {"name": "counting"}, "width": 2})
reports = {f"case-{n}": "x" * n for n in range(5)}
for _ in range(2):
    TextEncoding(text, reports, work / "text").run(rank=ranks.rank, world=ranks.world)
"""


def test_one_process_of_a_host_loads_the_encoder(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    job = [
        subprocess.Popen(
            [sys.executable, "-c", _JOB, str(tmp_path)],
            env=environment(RANK=rank, LOCAL_RANK=rank, **place),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    ended = [process.communicate(timeout=120) for process in job]
    assert [process.returncode for process in job] == [0, 0], ended
    assert [path.name for path in tmp_path.glob("loaded-*")] == ["loaded-0"]
    # The empty text and four others, each once.
    assert [path.name for path in tmp_path.glob("encoded-*")] == ["encoded-0"]
    assert sum(map(int, (tmp_path / "encoded-0").read_text().split())) == 5
    cache = TextCache.open(tmp_path / "text")
    assert [float(cache.read(f"case-{n}")[0][0, 0]) for n in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("local_ranks", "world", "encoding"),
    [
        ([0, 1, 2, 3], 4, [0]),
        ([0, 1, 0, 1], 4, [0, 2]),  # two hosts
        ([0], 3, [0, 1, 2]),  # processes that are not connected: this one sees itself alone
    ],
)
def test_the_first_process_of_every_host_encodes(
    monkeypatch: pytest.MonkeyPatch, local_ranks: list[int], world: int, encoding: list[int]
) -> None:
    monkeypatch.setattr(text_encoder, "all_gather_object", lambda own: local_ranks)
    assert text_encoder.encoding_ranks(world) == encoding


def test_hosts_with_different_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "all_gather_object", lambda own: [own, None, own, None])
    text_encoder.require_one_encoder("a")
    monkeypatch.setattr(text_encoder, "all_gather_object", lambda own: [own, None, "b", None])
    with pytest.raises(UserError, match="another one than that of process 2"):
        text_encoder.require_one_encoder("a")
