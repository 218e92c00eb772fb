"""The benchmark of tile stores at test size, and what its kept result says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiles


def test_it_counts_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "tiles.json"
    sizes = ["--rows", "3000", "--stored", "20", "--reads", "20", "--side", "32"]
    monkeypatch.setattr(sys, "argv", ["tiles.py", "--json", str(out), *sizes])
    tiles.main()
    found = json.loads(out.read_text())
    assert (found["rows"], found["stored_tiles"], found["random_reads"]) == (3000, 20, 20)
    assert found["row_bytes_and_pixels"]["tiles_per_cpu_second"] > 0


def test_the_kept_result_holds_what_is_claimed() -> None:
    kept = Path(tiles.__file__).parent / "results" / "tiles-2cores.json"
    found = json.loads(kept.read_text())
    assert found["rows"] == 3_200_000
    assert found["open"]["seconds"] < 3
    assert found["open_mb"] < 300
    assert found["after_all_mb"] < 300
