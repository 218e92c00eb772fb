"""The benchmarks run here at the paper's widths: one training step of 575 M parameters, ZeRO 2."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from shell import environment
from tiny_run import REPOSITORY

pytestmark = pytest.mark.slow

NEEDED_GIB = 17


def bench(name: str, out: Path, *words: str) -> dict[str, object]:
    # Huge pages: half of a step at these widths goes into page faults otherwise.
    tuned = environment(GLIBC_TUNABLES="glibc.malloc.hugetlb=1", OMP_NUM_THREADS="2")
    command = [sys.executable, str(REPOSITORY / "bench" / f"{name}.py"), "--json", str(out)]
    subprocess.run([*command, *words], env=tuned, check=True, timeout=570, capture_output=True)
    result: dict[str, object] = json.loads(out.read_text())
    return result


@pytest.mark.skipif(
    psutil.virtual_memory().available < NEEDED_GIB * 2**30,
    reason=f"a step at the paper's widths takes {NEEDED_GIB} GiB, and less is free",
)
def test_a_training_step_at_the_papers_widths_fits_this_machine(tmp_path: Path) -> None:
    words = ["--size", "small", "--batch", "1", "--repeats", "1"]
    result = bench("train_step", tmp_path / "train.json", *words)
    assert result["parameters"] == 575_506_474
    assert result["zero_stage"] == 2
    assert result["weights"] == "random"
    first, last = result["first_loss"], result["last_loss"]
    assert isinstance(first, float)
    assert isinstance(last, float)
    assert math.isfinite(first)
    # The same batch after one step of AdamW: the weights have moved, and in the right direction.
    assert last < first


def test_a_sampling_step_runs_at_test_size(tmp_path: Path) -> None:
    narrow = ["backbone.channels=[32,64]", "backbone.attention=[false,true]"]
    narrow += ["conditioner.width=64", "conditioner.queries=16"]
    words = [word for value in narrow for word in ("--set", value)]
    result = bench("sample_step", tmp_path / "s.json", "--size", "small", "--repeats", "1", *words)
    share = result["share_of_peak"]
    assert isinstance(share, float)
    assert 0 < share < 1
