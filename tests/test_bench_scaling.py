"""The benchmark of scaling: its cells, a manifest's two halves, and what its kept result says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import scaling


def test_one_thing_grows_at_a_time() -> None:
    cells = list(scaling._cells(8, 3))
    axes = [axis for axis, _ in cells]
    assert axes == ["voxels"] * 3 + ["tokens"] * 3 + ["batch"] * 3 + ["ranks"] * 4
    assert [sizes["latent"] for _, sizes in cells[:3]] == [(16, 16, n) for n in (8, 16, 32)]
    assert [sizes["stage"] for _, sizes in cells[-4:]] == [0, 1, 2, 3]


def test_a_manifest_is_measured_in_either_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scaling.written_manifest(tmp_path, 50)["form"] == "manifest.jsonl"
    assert scaling.read_manifest(tmp_path, 50)["read_us_a_line"] > 0
    monkeypatch.setattr(scaling, "MANY", 40)
    (tmp_path / "manifest.jsonl").unlink()
    assert scaling.written_manifest(tmp_path, 50)["form"] == "manifest.parquet"
    assert scaling.read_manifest(tmp_path, 50).keys() >= {"read_mb", "through_us_a_line"}


def test_the_kept_result_is_near_linear_and_near_its_forecast() -> None:
    kept = Path(scaling.__file__).parent / "results" / "scaling-2cores.json"
    found = json.loads(kept.read_text())
    rows = found["manifests"]
    assert len(rows) >= 4
    each = [row["read_us_a_line"] for row in rows]
    assert max(each) < 2 * min(each)
    assert {row["zero_stage"] for row in found["train"]} == {0, 1, 2, 3}
    for row in found["train"]:
        assert row["forecast_by_measured"] < 1.15, row
        # A batch of one goes through torch's im2col on the CPU, whose workspace no plan counts.
        workspace = row["batch"] == 1 and row["parameters"] < 10**7
        assert workspace or row["forecast_by_measured"] > 0.85, row
