"""Who a process is, by the variables of each launcher."""

from __future__ import annotations

import os

import pytest

from voxella.engine.ranks import Ranks
from voxella.errors import UserError

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        # Set first, so that what export() adds is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_alone() -> None:
    assert Ranks.from_environment() == Ranks(0, 0, 1)


def test_deepspeed_and_slurm_name_the_same_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SLURM_PROCID", "5"), ("SLURM_LOCALID", "1"), ("SLURM_NTASKS", "8")):
        monkeypatch.setenv(name, value)
    assert Ranks.from_environment() == Ranks(0, 0, 1)  # a batch script outside srun
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert Ranks.from_environment() == Ranks(5, 1, 8)
    for name, value in (("RANK", "2"), ("LOCAL_RANK", "2"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert Ranks.from_environment() == Ranks(2, 2, 4)


def test_shares_are_disjoint_and_whole() -> None:
    shares = [list(Ranks(rank, rank, 3).share(8)) for rank in range(3)]
    assert sorted(index for share in shares for index in share) == list(range(8))


def test_several_hosts_need_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NNODES", "2")
    with pytest.raises(UserError, match="MASTER_ADDR and MASTER_PORT unset") as caught:
        Ranks(0, 0, 16).export()
    assert "scontrol show hostnames" in str(caught.value)


def test_a_process_alone_leaves_an_inherited_port_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what export() sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setenv("MASTER_PORT", "12345")
    Ranks(0, 0, 1).export()
    assert os.environ["MASTER_PORT"] != "12345"
    # A launcher's own port stands: the process it started has to call there.
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_PORT", "12345")
    Ranks(0, 0, 1).export()
    assert os.environ["MASTER_PORT"] == "12345"
