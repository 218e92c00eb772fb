"""Checkpoints: on the disk before they count, checked before they are used, and never code."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from tiny_run import encoded_run, tiny_recipe

from voxella.engine.checkpoint_engine import SafeCheckpointEngine
from voxella.engine.checkpoints import Checkpoints, Provenance
from voxella.engine.saved_state import read_state, write_state
from voxella.errors import UserError
from voxella.hashing import sha256_file, sha256_json
from voxella.ldm.train import train
from voxella.ranks import Ranks

MODEL = "mp_rank_00_model_states.pt"
ZERO = "zero_pp_rank_0_mp_rank_00_optim_states.pt"
# Offloaded: otherwise one process takes stage 0.
STAGE_1 = "deepspeed.zero_optimization={stage: 1, offload_optimizer: {device: cpu}}"
OLDER, NEWER = "step-00000001", "step-00000002"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run under ZeRO 1 that was stopped after step 2, with checkpoints of steps 1 and 2."""
    run = tmp_path_factory.mktemp("trained")
    recipe = tiny_recipe("train.checkpoint_every=1", STAGE_1)
    encoded_run(recipe, run)
    train(recipe, run, stop_after=2)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def go_on(run: Path) -> Path | None:
    return train(tiny_recipe("train.checkpoint_every=1", STAGE_1), run)


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Hash of the weights that the run ends with when nothing happens to it."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("whole") / "run")
    go_on(run)
    return sha256_file(run / "model" / "model.safetensors")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    """Leave the name and lose the data, as a crash does where only the name was synced."""
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip, empty, Path.unlink])
@pytest.mark.parametrize("name", [MODEL, ZERO, "ema.pt", "complete.json"])
def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_it_continues(
    name: str,
    damage: Callable[[Path], None],
    run: Path,
    whole: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run / "checkpoints" / NEWER / name)
    assert go_on(run) is not None
    if (name, damage) != ("complete.json", Path.unlink):  # which was never complete
        assert f"{NEWER} is damaged: {name} " in capsys.readouterr().out
    assert sha256_file(run / "model" / "model.safetensors") == whole
    # What is damaged does not count among those kept.
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["step-00000003", "step-00000004"]


def test_where_no_checkpoint_is_sound_nothing_is_trained(run: Path) -> None:
    flip(run / "checkpoints" / OLDER / "ema.pt")
    (run / "checkpoints" / NEWER / "complete.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        go_on(run)
    said = str(caught.value)
    assert f"{NEWER} is damaged: complete.json is not what was written" in said
    assert f"{OLDER} is damaged: ema.pt is not what was written (its hash)" in said
    assert f"rm -r {run / 'checkpoints'} to train from the start" in said
    assert not (run / "model").exists()


class _Code:
    """Runs when it is unpickled: the oldest trick."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.ran}",)


def plant(path: Path, ran: Path, *, with_hash: bool, zipped: bool = True) -> None:
    """Put code into a checkpoint's file, and what is recorded of the file right, or not."""
    torch.save(_Code(ran), path, _use_new_zipfile_serialization=zipped)
    pickle_only = pickle.dumps(_Code(ran))
    assert b"system" in pickle_only  # it is what it is meant to be
    if not with_hash:
        return
    marker = path.parent / "complete.json"
    told = json.loads(marker.read_text())
    del told["sha256"]
    told["files"][path.name] = {"size": path.stat().st_size, "sha256": sha256_file(path)}
    marker.write_text(json.dumps({**told, "sha256": sha256_json(told)}))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", [MODEL, ZERO, "ema.pt"])
def test_code_in_a_checkpoint_does_not_run_and_is_refused(
    name: str, zipped: bool, run: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    plant(run / "checkpoints" / NEWER / name, ran, with_hash=True, zipped=zipped)
    with pytest.raises(UserError, match=r"names posix\.system, which no saved training needs"):
        go_on(run)
    assert not ran.exists()


def test_code_under_the_old_hash_is_passed_over(run: Path, tmp_path: Path, whole: str) -> None:
    plant(run / "checkpoints" / NEWER / ZERO, tmp_path / "ran", with_hash=False)
    assert go_on(run) is not None
    assert not (tmp_path / "ran").exists()
    assert sha256_file(run / "model" / "model.safetensors") == whole


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def sync(handle: int) -> None:
        fsync(handle)
        told.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).name))

    def move(source: Path, target: Path) -> None:
        told.append(("rename", Path(target).name))
        rename(source, target)

    recipe = tiny_recipe(STAGE_1)
    encoded_run(recipe, tmp_path)
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    train(recipe, tmp_path, stop_after=2)
    named = told.index(("rename", NEWER))
    files = {path.name for path in (tmp_path / "checkpoints" / NEWER).iterdir()}
    assert files == {MODEL, ZERO, "ema.pt", "complete.json"}
    assert files <= {name for kind, name in told[:named] if kind == "sync"}
    marked = told.index(("sync", "complete.json"))
    assert all(told.index(("sync", name)) < marked for name in files - {"complete.json"})
    assert told[named + 1] == ("sync", "checkpoints")


def test_nothing_that_loads_pickles_is_left_beside_checkpoints(trained: Path) -> None:
    assert not list((trained / "checkpoints").glob("*.py"))


def test_the_recorded_hash_is_that_of_the_file(tmp_path: Path) -> None:
    numbers = torch.arange(300_000)
    state = {"a": numbers, "b": [1, "two", None], "c": torch.zeros(0)}
    facts = write_state(tmp_path / "state.pt", state)
    assert facts.sha256 == sha256_file(tmp_path / "state.pt")
    assert facts.size == (tmp_path / "state.pt").stat().st_size
    found = read_state(tmp_path / "state.pt", remedy="none")
    assert found["b"] == [1, "two", None]
    assert torch.equal(found["a"], numbers)
    assert (tmp_path / "state.pt").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("numbers", [1, 1_000_000])
def test_a_full_disk_is_told_as_such(numbers: int) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"):
        write_state(Path("/dev/full"), torch.zeros(numbers))


def test_a_damaged_state_is_always_a_message(tmp_path: Path) -> None:
    path, draw = tmp_path / "state.pt", random.Random(8)
    write_state(path, {"step": 3, "weights": torch.arange(40.0), "history": [{"loss": 1.0}]})
    whole = path.read_bytes()
    said = []
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.choice([len(data), draw.randrange(len(data))])])
        try:
            read_state(path, remedy="train anew")
        except UserError as error:
            said.append(str(error))
    assert len(said) > 150
    assert all("next:     train anew" in text for text in said)


def test_what_fp16_saves_beside_tensors_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "optim_states.pt"
    scaler = DynamicLossScaler(
        init_scale=2.0**10,
        scale_window=5,
        min_scale=1.0,
        delayed_shift=2,
        consecutive_hysteresis=False,
        raise_error_at_min_scale=True,
        dtype=torch.float16,
    )
    torch.save({"loss_scaler": scaler}, path)
    found = SafeCheckpointEngine().load(str(path))["loss_scaler"]
    assert vars(found) == vars(scaler)


def test_a_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "none", keep=2, ranks=Ranks(0, 0, 1), zero_stage=0)
    assert checkpoints.newest(Provenance("recipe", 1, 0, 1.0)) is None
