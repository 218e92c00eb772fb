"""The benchmark of manifests at test size, and what its kept result says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import manifest
import pytest


def test_it_counts_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "manifest.json"
    sizes = ["--rows", "5000", "--lines", "300", "--reads", "20", "--through", "400"]
    monkeypatch.setattr(sys, "argv", ["manifest.py", "--json", str(out), *sizes])
    manifest.main()
    found = json.loads(out.read_text())
    assert (found["table"]["rows"], found["lines"]["rows"]) == (5000, 300)
    assert found["table"]["in_order"]["cases"] == 400
    assert found["lines"]["in_order"]["cases"] == 300
    assert found["table"]["open"]["seconds"] < 30


def test_the_kept_result_holds_what_is_claimed() -> None:
    kept = Path(manifest.__file__).parent / "results" / "manifest-2cores.json"
    found = json.loads(kept.read_text())["table"]
    assert found["rows"] == 3_200_000
    assert found["open"]["seconds"] < 10
    # Constant: what is kept is one group of rows, whatever the table's length.
    assert found["open_mb"] < 200
    assert found["after_all_mb"] < 300
