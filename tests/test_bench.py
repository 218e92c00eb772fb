"""The benchmarks of one training step (ZeRO 2) and one sampling step run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from shell import environment
from tiny_run import REPOSITORY

pytestmark = pytest.mark.slow


def bench(name: str, out: Path, *words: str) -> dict[str, object]:
    # Huge pages: half of a step at these widths goes into page faults otherwise.
    tuned = environment(GLIBC_TUNABLES="glibc.malloc.hugetlb=1", OMP_NUM_THREADS="2")
    command = [sys.executable, str(REPOSITORY / "bench" / f"{name}.py"), "--json", str(out)]
    subprocess.run([*command, *words], env=tuned, check=True, timeout=570, capture_output=True)
    result: dict[str, object] = json.loads(out.read_text())
    return result


NARROW = [
    word
    for value in (
        *("backbone.channels=[32,64]", "backbone.attention=[false,true]"),
        *("conditioner.width=64", "conditioner.queries=16"),
    )
    for word in ("--set", value)
]
WHOLE = "VOXELLA_TEST_PAPER_WIDTHS"


def test_a_training_step_runs(tmp_path: Path) -> None:
    """Narrow; at the paper's widths, 575 M parameters in 14 GiB, where that is asked for."""
    whole = os.environ.get(WHOLE) == "1"
    words = ["--size", "small", "--batch", "1", "--repeats", "1", *([] if whole else NARROW)]
    result = bench("train_step", tmp_path / "train.json", *words)
    parameters = result["parameters"]
    assert isinstance(parameters, int)
    assert (parameters == 575_506_474) == whole
    assert result["zero_stage"] == 2
    assert result["weights"] == "random"
    first, last = result["first_loss"], result["last_loss"]
    assert isinstance(first, float)
    assert isinstance(last, float)
    assert math.isfinite(first)
    # The same batch after one step of AdamW: the weights have moved, and in the right direction.
    assert last < first


def test_a_sampling_step_runs_at_test_size(tmp_path: Path) -> None:
    sizes = ["--size", "small", "--repeats", "1", *NARROW]
    result = bench("sample_step", tmp_path / "s.json", *sizes)
    share = result["share_of_peak"]
    assert isinstance(share, float)
    assert 0 < share < 1
