"""What a site with many GPUs starts from: job scripts, containers, a file of hosts, a citation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from shell import environment
from tiny_run import REPOSITORY

import voxella
from voxella.ranks import Ranks

SLURM = REPOSITORY / "examples" / "slurm"
SCRIPTS = sorted(SLURM.glob("*.sbatch"))

# Slurm as far as a job script sees it: as many processes as hosts, one after another on this one.
SRUN = """#!/bin/bash
trap 'kill $(jobs -p) 2> /dev/null' TERM
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=0 SLURM_NTASKS=2 SLURM_STEP_ID=0 "$@" &
done
code=0
for job in $(jobs -p); do wait "$job" || code=$?; done
exit $code
"""
SCONTROL = """#!/bin/bash
[[ "$1 $2 $3" == "show hostnames node-[1-2]" ]] || exit 1
printf '127.0.0.1\\n127.0.0.1\\n'
"""


def slurm(folder: Path, script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a job script with stubs of Slurm's commands, as a job of two processes."""
    for name, content in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    hosts = "1" if script.stem == "one-host" else "2"
    told = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node-[1-2]",
        "SLURM_NNODES": hosts,
        "SLURM_STEP_NUM_NODES": hosts,
        "SLURM_CPUS_PER_TASK": "1",
        "VOXELLA_BIN": str(Path(sys.executable).parent),
        # Both hosts are this one: the interface that an administrator would name.
        "GLOO_SOCKET_IFNAME": "lo",
    }
    found = environment(**told)
    return subprocess.run(
        ["bash", str(script), *words],
        env={**found, "PATH": f"{folder}{os.pathsep}{found['PATH']}"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_job_script_trains_with_two_processes(
    script: Path, smoke_workspace: Path, tmp_path: Path
) -> None:
    recipe = str(REPOSITORY / "recipes" / "ccella.yaml")
    options = ["--profile", "smoke", "--workspace", str(smoke_workspace), "--out", str(tmp_path)]
    done = slurm(tmp_path, script, "train", recipe, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads((tmp_path / "model" / "config.json").read_text())
    assert facts["step"] == 2
    assert "train  finished after step 2/2" in done.stderr
    # Two processes that had not found each other would each say so, and train the whole batch.
    assert done.stderr.count("train  finished") == 1


def test_a_mistake_in_a_job_script_is_one_message_and_its_exit_code(tmp_path: Path) -> None:
    done = slurm(tmp_path, SLURM / "one-host.sbatch", "train", "recipes/none-such.yaml")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", [*SCRIPTS, REPOSITORY / ".ci" / "run"], ids=lambda path: path.name)
def test_shell_scripts_pass_shellcheck(path: Path) -> None:
    _linted("shellcheck", path)


def test_the_dockerfile_passes_hadolint() -> None:
    _linted("hadolint", REPOSITORY / "containers" / "Dockerfile")


def test_the_image_copies_what_it_needs_and_nothing_else() -> None:
    """Docker refuses what .dockerignore leaves out; data and runs never reach the image."""
    lines = (REPOSITORY / "containers" / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert "*" in ignored
    assert all((REPOSITORY / name).exists() for name in copied)


def test_the_example_of_hosts_is_read_by_deepspeed() -> None:
    from deepspeed.launcher.runner import fetch_hostfile

    assert fetch_hostfile(str(SLURM / "hostfile")) == {"gpu-node-1": 4, "gpu-node-2": 4}


def test_a_job_of_several_hosts_needs_to_know_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the script exports is what :meth:`Ranks.export` asks for."""
    script = (SLURM / "several-hosts.sbatch").read_text()
    assert "export MASTER_ADDR MASTER_PORT" in script
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    with pytest.raises(voxella.UserError, match="MASTER_ADDR and MASTER_PORT"):
        Ranks(0, 0, 2).export()


def test_the_citation_names_this_version_and_both_papers() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    # What CFF 1.2.0 requires.
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert cited["version"] == voxella.__version__
    found = {one["identifiers"][0]["value"] for one in cited["references"]}
    assert found == {"arXiv:2506.10230", "arXiv:2309.00748"}


def _linted(tool: str, path: Path) -> None:
    program = Path(sys.executable).with_name(tool)
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
