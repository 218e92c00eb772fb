"""Encoding killed in the middle, by the real signal, on one rank of two: nothing is lost or other.

The data set and the stub networks are those of test_encode_stage.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_encode_stage import Data, StubAutoencoder, StubText, recipe, snapshot, stubs
from torch import Tensor

from voxella.cache import encode_text
from voxella.cache.latents import LatentCache, LatentWriter
from voxella.cache.text import TextCache, TextWriter
from voxella.errors import UserError

__all__ = ["stubs"]  # a fixture, used by every test here


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a kill cost one case and not a shard of 64."""
    for writer, limit in ((LatentWriter, "shard_cases"), (TextWriter, "shard_texts")):
        defaults = writer.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, limit, 1)
    monkeypatch.setattr(encode_text, "_AT_A_TIME", 1)


def killed(work: Callable[[], None], owner: type, after: int) -> None:
    """Run ``work`` in a process of its own that SIGKILLs itself in call ``after`` of encode."""
    calls = 0
    real = owner.encode  # type: ignore[attr-defined]  # both stubs have it

    def encode(self: object, given: object) -> object:
        nonlocal calls
        calls += 1
        if calls > after:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, given)

    def child() -> None:
        torch.set_num_threads(1)  # threads do not survive a fork
        owner.encode = encode  # type: ignore[attr-defined]
        work()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def content(folder: Path) -> dict[str, Any]:
    """Return everything a cache says, tensors as bytes."""
    latents = LatentCache.open(folder / "latents")
    text = TextCache.open(folder / "text")
    found: dict[str, Any] = {"statistics": latents.statistics, "keys": (latents.key, text.key)}
    for case_id in latents.ids:
        tensors = (*latents.read(case_id), text.read(case_id)[0])
        found[case_id] = [bytes_of(tensor) for tensor in tensors]
    return found | {"empty": bytes_of(text.empty), "truncated": text.truncated}


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", "compact"])
@pytest.mark.usefixtures("small_shards")
def test_two_killed_ranks_pick_up_where_they_were(
    data: Data, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without windows: finding out whether they are needed calls the stub, too.
    wanted = recipe({"dtype": dtype}, {"dtype": dtype, "tiling": "never"})
    data.encode(wanted, tmp_path / "whole")
    # Texts fall to the ranks 2 and 1, cases 3 and 2.
    killed(lambda: data.encode(wanted, rank=0, world=2), StubText, after=1)
    killed(lambda: data.encode(wanted, rank=1, world=2), StubAutoencoder, after=1)
    killed(lambda: data.encode(wanted, rank=0, world=2), StubAutoencoder, after=2)
    assert not (data.work / "latents" / "index.json").exists()
    standing = {
        f"{kind}/{name}": time
        for kind in ("latents", "text")
        for name, time in snapshot(data.work / kind).items()
        if name.endswith(".safetensors")
    }
    assert len(standing) == 3 + 1 + 2  # three texts, one case of rank 1, two of rank 0
    encoded = counted(monkeypatch)
    data.encode(wanted, rank=1, world=2)
    data.encode(wanted, rank=0, world=2)
    assert encoded == [1, 1], "the two cases that were left, and no text"
    assert content(data.work) == content(tmp_path / "whole")
    for name, time in standing.items():
        assert (data.work / name).stat().st_mtime_ns == time, "written once"


@pytest.mark.usefixtures("small_shards")
def test_one_process_finishes_what_two_began(data: Data, tmp_path: Path) -> None:
    wanted = recipe(latent={"tiling": "never"})
    data.encode(wanted, tmp_path / "whole")
    killed(lambda: data.encode(wanted, rank=1, world=2), StubAutoencoder, after=1)
    data.encode(wanted)
    assert content(data.work) == content(tmp_path / "whole")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of items of each call of either stub."""
    sizes: list[int] = []
    for owner in (StubAutoencoder, StubText):
        real: Callable[..., Any] = owner.encode

        def encode(self: object, given: Sequence[Any], real: Any = real) -> Any:
            sizes.append(len(given))
            return real(self, given)

        monkeypatch.setattr(owner, "encode", encode)
    return sizes


def test_both_halves_have_to_fit_before_the_first_begins(
    data: Data, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data.encode(recipe())
    told = capsys.readouterr().out
    # Twelve tokens of six float32; five latents of 2 x 64 float32 and one float64 follow.
    assert "features of 3 texts: 288 B to write, what follows 2.6 kB," in told
    # The text alone would fit.
    usage = type("usage", (), {"free": 64 * 2**20 + 2000})
    monkeypatch.setattr("voxella.workspace.space.shutil.disk_usage", lambda path: usage)
    with pytest.raises(
        UserError, match=r"features of 3 texts will take 288 B, what follows 2.6 kB"
    ):
        data.encode(recipe(), data.work / "elsewhere")
    assert not list((data.work / "elsewhere").rglob("*.safetensors"))


def test_windows_are_part_of_what_latents_are(
    data: Data, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data.encode(recipe())
    inputs, key = recorded(data), data.latents().key
    assert "windows" not in inputs
    assert json.loads((data.work / "latents" / "tiling.json").read_text())["encode"] is None
    whole = {case_id: data.latents().read(case_id)[0].clone() for case_id in data.latents().ids}
    capsys.readouterr()
    data.encode(recipe(latent={"tiling": "never"}))
    assert "latents: up to date" in capsys.readouterr().out
    # A voxel of the stub's latent sees its own 2 x 2 x 2 voxels: a halo of one is plenty.
    monkeypatch.setattr("voxella.autoencoder.tiling.autoencoder.HALO", 1)
    monkeypatch.setattr("voxella.autoencoder.tiling.choice.HALO", 1)
    data.encode(recipe(latent={"tiling": [6, 6, 4]}))
    assert "what has changed: windows" in capsys.readouterr().out
    assert recorded(data)["windows"] == {"encode": [6, 6, 4], "halo": 1}
    assert data.latents().key != key
    assert all(torch.equal(data.latents().read(i)[0], whole[i]) for i in whole)


def recorded(data: Data) -> dict[str, Any]:
    inputs: dict[str, Any] = json.loads((data.work / "latents" / "stage.json").read_text())[
        "inputs"
    ]
    return inputs


def test_changes_are_named(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.encode(recipe())
    capsys.readouterr()
    data.encode(recipe(gain=2.0))
    assert "what has changed: autoencoder\n" in capsys.readouterr().out
    data.encode(recipe(gain=2.0, latent={"dtype": "bfloat16"}))
    assert "what has changed: latent\n" in capsys.readouterr().out
