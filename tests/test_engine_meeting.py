"""How processes meet, and that nobody on another host can reach a job of one host."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from shell import environment

from voxella.engine.meeting import connect
from voxella.errors import UserError
from voxella.ranks import Ranks

TESTS = Path(__file__).parent
TRAIN = ("training_driver.py", "0", "whole")


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of this host, on all its addresses, where somebody else listens."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def start(*words: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        env={**environment(), **more},
        cwd=TESTS,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def pair(*words: str, **more: str) -> list[subprocess.Popen[str]]:
    """Start two processes of one job; the second behind a shell, as wrappers do."""
    both = [(rank, {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}) for rank in "01"]
    jobs = [start("meeting_driver.py", *words, **told, **more) for rank, told in both[:1]]
    behind = ["-c", f"import subprocess, sys; sys.exit(subprocess.call({_driver()!r}))"]
    return jobs + [start(*behind, **told, **more) for rank, told in both[1:]]


def _driver() -> list[str]:
    return [sys.executable, "meeting_driver.py"]


def listening(job: subprocess.Popen[str]) -> set[str]:
    """Return the addresses at which a job's processes listen, until it ends."""
    found = set()
    while job.poll() is None:
        try:
            family = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
            for process in family:
                for connection in process.net_connections():
                    if connection.status == psutil.CONN_LISTEN:
                        found.add(connection.laddr.ip)
        except psutil.Error:  # it has just ended
            pass
        time.sleep(0.3)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_training_on_one_host_listens_on_its_loopback_alone_and_needs_no_port(
    world: int, taken: int, tmp_path: Path
) -> None:
    name, *plan = TRAIN
    words = [name, str(tmp_path), *plan, "train.steps=2"]
    if world == 2:
        launcher = ["-m", "deepspeed.launcher.runner", "--num_gpus", "2"]
        words = [*launcher, "--master_port", str(taken), "--no_local_rank", *words]
    job = start(*words)
    found = listening(job)
    said, _ = job.communicate()
    assert job.returncode == 0, said
    assert found == {"127.0.0.1"}
    assert (tmp_path / "whole-0" / "model" / "config.json").is_file()


def test_processes_meet_whatever_stands_between_them_and_their_launcher(tmp_path: Path) -> None:
    jobs = pair(TMPDIR=str(tmp_path))
    said = [job.communicate(timeout=120)[0] for job in jobs]
    assert [text.splitlines()[-1] for text in said] == ["met [0, 1]"] * 2
    folder = tmp_path / f"voxella-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(folder.iterdir())


def test_a_killed_jobs_meeting_place_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    first = pair("600", TMPDIR=str(tmp_path))
    assert first[1].communicate(timeout=120)[0].splitlines()[-1] == "met [0, 1]"
    first[0].kill()
    first[0].communicate()
    folder = tmp_path / f"voxella-{os.getuid()}"
    (left,) = folder.iterdir()
    # Of the same launcher, which is this process, so under the same name but for its maker.
    jobs = pair(TMPDIR=str(tmp_path))
    said = [job.communicate(timeout=120)[0] for job in jobs]
    assert [text.splitlines()[-1] for text in said] == ["met [0, 1]"] * 2
    assert not left.exists()


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / f"voxella-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o755)
    told = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "TMPDIR": str(tmp_path)}
    job = start("meeting_driver.py", **told)
    said, _ = job.communicate(timeout=120)
    assert f"{folder} is not this user's alone" in said
    assert "Traceback" not in said


def test_a_taken_port_of_a_job_of_several_hosts_is_one_message(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOCAL_WORLD_SIZE", "1"), ("MASTER_ADDR", socket.gethostname())):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(taken))
    with pytest.raises(UserError, match=f"port {taken} of this host is in use") as caught:
        connect(Ranks(0, 0, 2))
    assert "deepspeed --master_port N" in str(caught.value)


def test_a_loopback_interface_that_is_down_is_said() -> None:
    """In a network namespace of its own, whose loopback nobody has brought up."""
    code = (
        "from voxella.engine.meeting import connect; from voxella.ranks import Ranks;"
        "connect(Ranks(0, 0, 1))"
    )
    apart = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a process have a network namespace")
    done = subprocess.run(
        [*apart, sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "the loopback interface is down" in done.stderr
    assert "ip link set lo up" in done.stderr
    up = ["sh", "-c", f"ip link set lo up 2> /dev/null && exec {sys.executable} -c '{code}'"]
    if shutil.which("ip"):
        assert not subprocess.run([*apart, *up], env=environment(), check=False).returncode
