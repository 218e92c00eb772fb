"""Own state files are read in one place: as they were written, or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typing_extensions import TypedDict

from voxella.cache.shard_reader import ShardReader
from voxella.cache.shards import ShardWriter, collect_shards
from voxella.errors import UserError
from voxella.files import write_json_atomic, write_text_atomic
from voxella.workspace.record import StageRecord
from voxella.workspace.state import DamagedError, StateFile, StateLines, sealed


class Shape(TypedDict):
    name: str
    values: list[float]


KIND: StateFile[Shape] = StateFile(Shape, "rm {path} in {folder}")
CONTENT = {"name": "a", "values": [1.0, 2.5]}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert KIND.read(path) is None
    write_json_atomic(path, sealed(CONTENT))
    assert KIND.read(path) == CONTENT
    # Of an earlier version, or by hand: judged by its form alone.
    write_json_atomic(path, CONTENT)
    assert KIND.read(path) == CONTENT


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "{}", "null", "7", "NaN", "\ud800", "[" * 5000, '{"a": ' * 5000),
        '{"name": 3, "values": []}',
        '{"name": "a"}',
        '{"name": "a", "values": ["b"]}',
        f'{{"name": "a", "values": [{"9" * 5000}]}}',
    ],
)
def test_what_is_not_as_written_is_one_sentence(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(DamagedError) as caught:
        KIND.read(path)
    assert caught.value.problem.startswith(f"{path} is damaged: ")
    assert caught.value.remedy == f"rm {path} in {tmp_path}"
    assert "\n" not in caught.value.problem
    # Where it can be made again, that is said once.
    assert KIND.read_or_remake(path) is None
    assert KIND.read_or_remake(path) is None
    assert capsys.readouterr().out.count("it is made again") == 1


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    """But for those that leave no seal, and blanks between: the content is as it was then."""
    path = tmp_path / "a.json"
    write_json_atomic(path, sealed(CONTENT))
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = KIND.read(path)
            except DamagedError:
                continue
            assert found is not None
            assert {key: found[key] for key in CONTENT} == CONTENT  # type: ignore[literal-required]


def test_a_stage_whose_file_has_changed_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = StageRecord(tmp_path, "measure", {"seed": 1})
    write_json_atomic(tmp_path / "numbers.json", {"auc": 0.71})
    record.complete(["numbers.json"], cases=3)
    assert record.is_current()
    write_json_atomic(tmp_path / "numbers.json", {"auc": 0.91})
    assert not record.is_current()
    assert f"{tmp_path / 'numbers.json'} is not as measure wrote it" in capsys.readouterr().out
    # Nobody reads the other number, whether he knows the stage or not.
    anything: StateFile[dict[str, float]] = StateFile(dict[str, float], "measure again")
    with pytest.raises(DamagedError, match="not what its stage wrote"):
        anything.read(tmp_path / "numbers.json")
    (tmp_path / "numbers.json").unlink()
    assert not record.is_current()


def test_lines_that_a_kill_or_a_disk_spoilt_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log: StateLines[dict[str, float]] = StateLines(dict[str, float], needs=("step",))
    path = tmp_path / "log.jsonl"
    assert log.read(path) == []
    write_text_atomic(path, '{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert log.read(path) == [{"step": 1, "loss": 2.0}]
    assert capsys.readouterr().out == ""  # a kill cuts the last: nothing is damaged
    write_text_atomic(path, '{"step": 1}\n[]\n{"loss": 1}\n{"step": "a"}\n\0\n{"step": 5}\n')
    assert log.read(path) == [{"step": 1}, {"step": 5}]
    assert f"{path} is damaged: 4 lines cannot be read; left out" in capsys.readouterr().out


def cache(folder: Path) -> dict[str, str]:
    """Two shards of two entries."""
    wanted = {f"e{number}": f"mark{number}" for number in range(4)}
    with ShardWriter(folder, key="key", wanted=wanted, shard_entries=2) as writer:
        for number, entry in enumerate(wanted):
            generator = torch.Generator().manual_seed(number)
            writer.add(entry, {"mean": torch.randn(3, 4, generator=generator)})
    return wanted


def refused(reader: ShardReader, entry: str, whole: Tensor) -> UserError | None:
    """Read an entry, which is whole or refused; return the refusal."""
    try:
        found = reader.tensor(entry, "mean")
    except UserError as refusal:
        return refusal
    assert torch.equal(found, whole)
    return None


def test_a_flipped_byte_of_a_latent_is_noticed_before_it_trains(tmp_path: Path) -> None:
    wanted = cache(tmp_path)
    shard_of = collect_shards(tmp_path, key="key", wanted=wanted)
    whole = {e: ShardReader(tmp_path, shard_of).tensor(e, "mean").clone() for e in wanted}
    path = tmp_path / shard_of["e1"]
    data = path.read_bytes()
    start = len(data) - 2 * 3 * 4 * 4  # two tensors of 48 bytes, behind the header
    for place in range(start, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        reader = ShardReader(tmp_path, shard_of)
        bad = []
        for entry in wanted:
            refusal = refused(reader, entry, whole[entry])
            if refusal is not None:
                assert refusal.problem.startswith(f"{path} is damaged: {entry} is not what")
                assert refusal.remedy is not None
                assert refusal.remedy.startswith(f"rm {path}, then voxella encode")
                bad.append(entry)
        assert len(bad) == 1


def test_a_header_with_a_flipped_byte_is_damaged_or_as_good(tmp_path: Path) -> None:
    wanted = cache(tmp_path)
    shard_of = collect_shards(tmp_path, key="key", wanted=wanted)
    whole = {e: ShardReader(tmp_path, shard_of).tensor(e, "mean").clone() for e in wanted}
    path = tmp_path / shard_of["e0"]
    data = path.read_bytes()
    for place in range(0, len(data) - 96, 3):
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        reader = ShardReader(tmp_path, shard_of)
        for entry in ("e0", "e1"):
            refusal = refused(reader, entry, whole[entry])
            assert refusal is None or str(path) in refusal.problem


def test_a_shard_without_sums_is_of_an_earlier_version(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    metadata = {"key": "key", "marks": json.dumps({"e": "m"})}
    save_file({"e/mean": torch.ones(3)}, tmp_path / "rank0000-00000.safetensors", metadata)
    shard_of = collect_shards(tmp_path, key="key", wanted={"e": "m"})
    assert ShardReader(tmp_path, shard_of).tensor("e", "mean").tolist() == [1.0, 1.0, 1.0]
