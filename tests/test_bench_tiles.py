"""The benchmark of tile stores at test size, and what its kept result says."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tiles
from tiny_run import REPOSITORY

from voxella.autoencoder.load import AutoencoderPlan
from voxella.forecast.flops import count_autoencoder, count_model
from voxella.recipe.load import load_recipe


def test_it_counts_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "tiles.json"
    sizes = ["--rows", "3000", "--stored", "20", "--reads", "20", "--side", "32"]
    monkeypatch.setattr(sys, "argv", ["tiles.py", "--json", str(out), *sizes])
    tiles.main()
    found = json.loads(out.read_text())
    assert (found["rows"], found["stored_tiles"], found["random_reads"]) == (3000, 20, 20)
    assert found["row_bytes_and_pixels"]["tiles_per_cpu_second"] > 0
    loaders = found["loaders"]
    assert loaders["workers"] == 2
    assert loaders["tiles_per_second"] * loaders["seconds"] == pytest.approx(20, rel=0.05)


def test_the_kept_result_holds_what_is_claimed() -> None:
    kept = Path(tiles.__file__).parent / "results" / "tiles-2cores.json"
    found = json.loads(kept.read_text())
    assert found["rows"] == 3_200_000
    assert found["open"]["seconds"] < 3
    assert found["open_mb"] < 300
    assert found["after_all_mb"] < 300
    # One core of a loader gives more tiles than the paper's GPU could take at its peak.
    rate = found["row_bytes_and_pixels"]["tiles_per_cpu_second"]
    assert rate > tiles._gpu()["tiles_per_second_at_peak"]


@pytest.mark.slow
def test_a_tile_asks_for_the_operations_that_are_counted() -> None:
    recipe = load_recipe(str(REPOSITORY / "recipes" / "pathldm" / "pathldm.yaml"))
    model = count_model(recipe)
    coder = count_autoencoder(AutoencoderPlan.of(recipe), [256, 256])
    assert model is not None
    assert coder is not None
    assert tiles._TRAIN_FLOPS == model.train
    assert tiles._ENCODE_FLOPS == coder[0]
