"""How the processes of a job find each other, and who else could reach them.

One process talks to nobody. Several on one host meet by a file in a folder of the user's own and
talk over the loopback interface: nothing of theirs can be reached from another host. Only a job of
several hosts listens on the network, at the address that its launcher names.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import socket
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed
from torch._C._distributed_c10d import FileStore, HashStore, Store  # the types of torch.distributed

from voxella.errors import UserError
from voxella.files import own_folder
from voxella.process import ProcessMark
from voxella.ranks import Ranks

__all__ = ["connect"]

# How long collectives wait, DeepSpeed's own value.
_PATIENCE = timedelta(minutes=30)
# How long a process waits for the first one to begin; both import the same libraries meanwhile.
_LATEST_SECONDS = 600.0


def connect(ranks: Ranks) -> None:
    """Make the default process group.

    Args:
        ranks: This process.

    Raises:
        UserError: Another program has the port, the folder to meet in is another user's, or the
            first process does not come.
    """
    backend = "nccl" if ranks.device.type == "cuda" else "gloo"
    settings: dict[str, Any] = {"backend": backend, "timeout": _PATIENCE}
    if backend == "nccl" and ranks.world > 1:
        settings["device_id"] = ranks.device
    if not ranks.on_one_host:
        _refuse_taken_port(ranks)
        distributed.init_process_group(init_method="env://", **settings)
        return
    _keep_to_loopback()
    store = HashStore() if ranks.world == 1 else _file_store(ranks)
    distributed.init_process_group(store=store, rank=ranks.rank, world_size=ranks.world, **settings)


def _keep_to_loopback() -> None:
    """Let gloo and NCCL use the loopback interface, and not look up this host's name."""
    names = [name for _, name in socket.if_nameindex()]
    loopback = next((name for name in ("lo", "lo0") if name in names), None)
    if loopback is not None:
        _refuse_loopback_down(loopback)
        os.environ["GLOO_SOCKET_IFNAME"] = loopback
        os.environ["NCCL_SOCKET_IFNAME"] = f"={loopback}"  # that one, not all that begin so


def _refuse_loopback_down(name: str) -> None:
    """Say in words what gloo raises where the interface has no address: in a bare namespace."""
    # Nothing is sent: a datagram socket only looks for the way.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except OSError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
                raise
            raise UserError(
                "the loopback interface is down: processes of this host cannot talk to each other",
                remedy=f"as root: ip link set {name} up",
            ) from None


def _file_store(ranks: Ranks) -> Store:
    folder, job = own_folder(), _job()
    if not ranks.is_main:
        return FileStore(str(_appointed(folder, job, ranks)), ranks.world)
    for left in folder.iterdir():
        mark = ProcessMark.parse(left.name.partition("-")[2])
        if mark is not None and mark.is_gone():
            left.unlink(missing_ok=True)
    path = folder / f"{job}-{ProcessMark.own()}"
    path.unlink(missing_ok=True)  # of an earlier group of this process
    atexit.register(path.unlink, missing_ok=True)
    path.touch(mode=0o600)
    return FileStore(str(path), ranks.world)


def _appointed(folder: Path, job: str, ranks: Ranks) -> Path:
    """Return the file that a living first process of this job has made."""
    deadline = time.monotonic() + _LATEST_SECONDS
    while time.monotonic() < deadline:
        for path in folder.glob(f"{job}-*"):
            mark = ProcessMark.parse(path.name.partition("-")[2])
            if mark is not None and mark.is_gone() is False:
                return path
        time.sleep(0.1)
    raise UserError(
        f"process {ranks.rank} of {ranks.world} has waited {_LATEST_SECONDS / 60:.0f} minutes for "
        "the first process of its job on this host",
        remedy="start all processes by one launcher: deepspeed --module voxella RECIPE",
    )


def _job() -> str:
    """Return a name for this job, the same for all its processes on this host and nobody else's.

    Processes of one launcher are of one job: it is the nearest process above that was not itself
    told a rank. Shells and wrappers between the two have inherited theirs.
    """
    if "SLURM_STEP_ID" in os.environ and not _has_rank(os.getpid()):
        named = f"{os.environ.get('SLURM_JOB_ID')}.{os.environ['SLURM_STEP_ID']}"
    else:
        pid = os.getppid()
        while _has_rank(pid) and (above := _parent(pid)) > 1:
            pid = above
        named = str(ProcessMark.of(pid))
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def _has_rank(pid: int) -> bool:
    """Return whether a process was started with a rank; what it has set since does not count."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # another user's, or no such system
        return False
    return any(entry.startswith(b"RANK=") for entry in environment.split(b"\0"))


def _parent(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in lines.splitlines() if x.startswith("PPid:")), 0)


def _refuse_taken_port(ranks: Ranks) -> None:
    """Say at once that another program listens where the first process must."""
    if not ranks.is_main or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    port = int(os.environ["MASTER_PORT"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise UserError(
                f"port {port} of this host is in use; the processes of other hosts would call "
                "another program there",
                remedy="choose a free one: deepspeed --master_port N, or export MASTER_PORT=N",
            ) from None
