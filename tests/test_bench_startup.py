"""The benchmark of start-up at test size: it times what a command really prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import startup

from voxella.pipeline.stages import stage_names


def kept() -> dict[str, Any]:
    path = Path(startup.__file__).parent / "results" / "startup-2cores.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_line_is_waited_for_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    # Prints after half a second and would then go on for a minute.
    slow = "import time; time.sleep(0.5); print('here', flush=True); time.sleep(60)"
    monkeypatch.setattr(startup, "_VOXELLA", [sys.executable, "-c", slow])
    row = startup._measured(["train"], 1, whole=False)
    assert 0.5 <= row["seconds"] < 60
    assert row["processor_seconds"] < 0.5
    assert (row["until"], row["target_seconds"]) == ("its first line", 2.0)
    monkeypatch.setattr(startup, "_VOXELLA", [sys.executable, "-c", "pass"])
    with pytest.raises(SystemExit, match="voxella train printed nothing"):
        startup._measured(["train"], 1, whole=False)


def test_the_kept_result_is_of_every_stage_and_within_the_bounds() -> None:
    """By the processor's seconds: the clock's are of a machine that did other work as well."""
    found = kept()
    assert found["what"] == "startup"
    assert found["repeats"] >= 5
    rows = {row["command"]: row for row in found["commands"]}
    assert rows.keys() >= {*stage_names(), "plugins", "recipe validate", "check", "report", "study"}
    for row in rows.values():
        assert row["processor_seconds"] < row["target_seconds"], row
