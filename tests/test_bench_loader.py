"""The loader's benchmark at test size: it counts what is really there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import loader
import pytest


def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    out = tmp_path / "loader.json"
    small = ["--size", "small", "--batch", "2", "--repeats", "2", "--cases", "4", "--tokens", "30"]
    monkeypatch.setattr(sys, "argv", ["loader.py", "--json", str(out), *small, *words])
    loader.main()
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_the_forms_take_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = measured(tmp_path, monkeypatch, "--set", "text.width=256")
    latent, text = 4 * 16**3, 30 * 256
    bits = {"float32": 32, "bfloat16": 16, "compact": 6.25}
    twice = {"float32": 64, "bfloat16": 32, "compact": 8.25 + 4.25}
    for form in result["forms"]:
        # Three of four cases have a report at the paper's share, 3,701 of 5,071.
        values = (latent * twice[form["latent"]] + 0.5 * text * bits[form["text"]]) / 8
        more = (latent * twice[form["latent"]] + 0.75 * text * bits[form["text"]]) / 8
        assert values < form["bytes_per_case"] < more + 2500  # and names, and indices
        assert form["cases_per_second"] > 0
        assert form["share_of_released"] == pytest.approx(
            form["bytes_per_case"] / result["released_bytes_per_case"], abs=1e-4
        )
    sizes = [form["bytes_per_case"] for form in result["forms"]]
    assert sizes == sorted(sizes, reverse=True)
    assert result["needed_cases_per_second"] >= 5.84
