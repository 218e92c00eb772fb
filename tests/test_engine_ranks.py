"""Who a process is, by the variables of each launcher."""

from __future__ import annotations

import os

import pytest

from voxella.errors import UserError
from voxella.ranks import Ranks

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID")
MORE = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE", "SLURM_NNODES", "SLURM_STEP_NUM_NODES")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *MORE):
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


def test_a_job_of_one_host_is_told_from_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ranks(0, 0, 1).on_one_host
    assert Ranks(0, 0, 2).on_one_host  # nobody has named another one
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    assert not Ranks(0, 0, 2).on_one_host
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"):  # torchrun's and DeepSpeed's
        monkeypatch.setenv(name, "2")
        assert Ranks(0, 0, 2).on_one_host
        assert not Ranks(0, 0, 4).on_one_host
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NNODES", "4")
    assert not Ranks(0, 0, 2).on_one_host
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "1")  # a step within the job
    assert Ranks(0, 0, 2).on_one_host


def test_a_job_of_one_host_needs_neither_address_nor_port(monkeypatch: pytest.MonkeyPatch) -> None:
    Ranks(0, 0, 2).export()
    assert "MASTER_PORT" not in os.environ
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    Ranks(0, 0, 2).export()
    assert os.environ["MASTER_PORT"] == "29500"
