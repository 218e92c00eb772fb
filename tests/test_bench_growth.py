"""The benchmark of growth at test size: both ways find the same, and shares are shares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import growth
import pytest


def test_both_ways_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "growth.json"
    sizes = ["--cases", "6", "--slices", "5", "--features", "8", "--draws", "9"]
    monkeypatch.setattr(
        sys, "argv", ["growth.py", "--json", str(out), "--megabytes", "0.01", *sizes]
    )
    growth.main()
    found = json.loads(out.read_text())
    assert [row["patients"] for row in found["fid"]] == [6, 12, 24]
    assert [row["vectors"] for row in found["fid"]] == [30, 60, 120]
    assert all(row["largest_relative_difference"] < 1e-9 for row in found["fid"])
    assert [row["volumes_a_process"] for row in found["hashing"]] == [6, 3, 1]
    assert {row["volumes_a_process_before"] for row in found["hashing"]} == {6}
    assert [row["cases"] for row in found["manifests"]] == [6, 12, 24]


def test_the_kept_result_is_of_this_benchmark() -> None:
    kept = Path(growth.__file__).parent / "results" / "growth-2cores.json"
    found = json.loads(kept.read_text())
    assert found["what"] == "growth"
    assert all(row["largest_relative_difference"] < 1e-9 for row in found["fid"])
    assert all(row["times_faster"] > 1 for row in (*found["fid"], *found["manifests"]))
