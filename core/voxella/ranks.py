"""Who this process is among the job's processes, however the job was launched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxella.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["Ranks"]

# Slurm names the same facts otherwise; `srun` alone sets none of the usual names.
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_SLURM = {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_NTASKS"}


@dataclass(frozen=True)
class Ranks:
    """This process's place.

    Attributes:
        rank: Its number in the job, from 0.
        local_rank: Its number on this host: the GPU it uses.
        world: Processes in the job.
    """

    rank: int
    local_rank: int
    world: int

    @classmethod
    def from_environment(cls) -> Ranks:
        """Read the launcher's variables; alone, this is rank 0 of 1."""
        found = {}
        for name, slurm in _SLURM.items():
            value = os.environ.get(name)
            # A Slurm batch script sets SLURM_NTASKS even outside srun, hence the step check.
            if value is None and "SLURM_STEP_ID" in os.environ:
                value = os.environ.get(slurm)
            found[name] = int(value) if value else None
        return cls(found["RANK"] or 0, found["LOCAL_RANK"] or 0, found["WORLD_SIZE"] or 1)

    @property
    def is_main(self) -> bool:
        """Return whether this process speaks for the job."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Return this process's device: its GPU, or the CPU."""
        import torch  # seconds: the command line asks for the rank long before

        if torch.cuda.is_available():
            return torch.device("cuda", self.local_rank % torch.cuda.device_count())
        return torch.device("cpu")

    @property
    def on_one_host(self) -> bool:
        """Return whether all processes of the job are on this host, as its launcher has said."""
        if self.world == 1:
            return True
        here = os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE")
        if here is not None:
            return int(here) == self.world
        if "SLURM_STEP_ID" in os.environ:
            nodes = os.environ.get("SLURM_STEP_NUM_NODES") or os.environ.get("SLURM_NNODES", "1")
            return int(nodes) == 1
        return os.environ.get("MASTER_ADDR", "127.0.0.1") in _LOOPBACK

    def share(self, count: int) -> range:
        """Return the indices of ``count`` items that fall to this process."""
        return range(self.rank, count, self.world)

    def export(self) -> None:
        """Set the variables that torch.distributed reads, where the launcher has not.

        Raises:
            UserError: Several hosts, and nobody has said which of them the others should call.
        """
        if not self.on_one_host and "SLURM_STEP_ID" in os.environ:
            missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
            if missing:
                raise UserError(
                    f"srun started processes on several hosts, but {' and '.join(missing)} unset",
                    remedy="export MASTER_ADDR=$(scontrol show hostnames $SLURM_JOB_NODELIST | "
                    "head -n 1) MASTER_PORT=29500",
                )
        values = {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "WORLD_SIZE": str(self.world),
        }
        if not self.on_one_host:
            values["MASTER_PORT"] = "29500"
        for name, value in values.items():
            os.environ.setdefault(name, value)
