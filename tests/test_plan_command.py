"""``voxella plan``: what it says, what it writes, and how it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from tiny_run import REPOSITORY, encoded_run

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.forecast.cards import TABLE, read_cards
from voxella.forecast.fingerprint import (
    Fingerprint,
    propose_grid,
    read_fingerprint,
    target_spacing,
    token_limit,
)
from voxella.forecast.proposal import halvings_of
from voxella.ldm.train import train
from voxella.plugins.component import Component
from voxella.recipe.load import load_recipe

RECIPE = str(REPOSITORY / "recipes" / "ccella.yaml")
SMALL = ("--profile", "smoke", "--set", "text.width=12", "--set", "observers=[]")


def fingerprint(
    spacings: list[list[float]], shapes: list[list[float]], *, in_mm: bool = True
) -> Fingerprint:
    return Fingerprint(np.array(spacings), np.array(shapes), len(spacings), in_mm)


def test_the_spacing_is_nnunets() -> None:
    """Its rule by hand: (median; of a coarse axis the finer tenth, never below the others)."""
    near = [[0.5, 0.5, 1.4], [0.5, 0.5, 1.5], [0.7, 0.7, 1.2]]
    shapes = [[320.0, 320.0, 24.0]] * 3
    # 1.4 is under three times 0.5: the median.
    assert target_spacing(np.array(near), np.array(shapes)).tolist() == [0.5, 0.5, 1.4]
    coarse = [[0.5, 0.5, edge] for edge in (3.0, 3.0, 3.0, 3.6, 2.0)]
    found = target_spacing(np.array(coarse), np.array([[320.0, 320.0, 24.0]] * 5))
    # The tenth percentile of five values lies at 0.4 of the way from the first to the second.
    assert found.tolist() == pytest.approx([0.5, 0.5, 2.4])
    # Coarse, but with as many voxels as the others: no rule.
    assert target_spacing(np.array(coarse), np.array([[64.0, 64.0, 64.0]] * 5))[2] == 3.0
    finest = [[0.5, 0.5, edge] for edge in (0.1, 0.1, 3.0, 3.0, 3.0)]
    floor = target_spacing(np.array(finest), np.array([[320.0, 320.0, 24.0]] * 5))
    assert floor[2] == pytest.approx(0.5, abs=1e-4)


def test_the_grid_covers_the_median_extent_in_whole_units() -> None:
    found = fingerprint([[0.5, 0.5, 3.0]] * 3, [[320, 320, 24], [256, 320, 24], [320, 320, 30]])
    grid = propose_grid(found, 3, factor=4, halvings=3)
    # Units of 4 x 2^3 = 32 voxels; slices of 3 mm, which the rule leaves: the tenth is 3 as well.
    assert grid.crop == (160.0, 160.0, 72.0)
    assert grid.size == (320, 320, 32)
    assert grid.latent == (80, 80, 8)
    assert grid.spacing == (0.5, 0.5, 2.25)
    assert grid.padded == pytest.approx(1 / 3)
    coarser = propose_grid(found, 3, factor=4, halvings=3, most_voxels=10**6)
    assert np.prod(coarser.size) <= 10**6
    # What is coarse stays as it is while the fine axes give way.
    assert coarser.size[2] == 32
    assert coarser.crop == grid.crop


def test_a_backbone_says_how_often_it_halves() -> None:
    assert halvings_of(Component(name="maisi_unet", channels=[64, 128, 256, 512])) == 3
    assert halvings_of(Component(name="dit3d", patch_size=2)) == 1
    assert halvings_of(Component(name="anything")) == 0


def test_ninety_nine_of_a_hundred_reports_keep_to_the_limit() -> None:
    counts = list(range(1, 101))
    assert token_limit(counts) == 104  # the 99th is 99 or 100, in eights
    assert token_limit([3]) == 8


def test_headers_tell_the_fingerprint(tmp_path: Path) -> None:
    cases = []
    for number, edge in enumerate((1.0, 2.0, 4.0)):
        path = tmp_path / f"{number}.nii.gz"
        image = nib.Nifti1Image(np.zeros((8, 6, 4), np.float32), np.diag([edge, 1.0, 3.0, 1.0]))
        nib.save(image, path)
        split: Any = "test" if number == 2 else "train"
        cases.append(
            Case(id=f"c{number}", group=f"g{number}", images={"t2w": path.name}, split=split)
        )
    found = read_fingerprint(Manifest(tmp_path, cases), "t2w")
    assert found.spacings.tolist() == [[1.0, 1.0, 3.0], [2.0, 1.0, 3.0]]
    assert found.shapes.tolist() == [[8, 6, 4]] * 2
    assert (found.of, found.in_mm) == (2, True)
    with pytest.raises(UserError, match="no training image of adc"):
        read_fingerprint(Manifest(tmp_path, cases), "adc")


def test_the_table_of_cards_may_be_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "cards.yaml"
    packaged = read_cards()
    assert packaged.require("NVIDIA H100 80GB HBM3").name == "H100"
    assert packaged.require("a100 40gb").memory_gib == 39.5
    assert packaged.usable_bytes(1.0) == 0
    own.write_text(TABLE.read_text().replace("T4: {memory_gib: 15", "T4: {memory_gib: many"))
    with pytest.raises(UserError, match=r"cards\.T4\.memory_gib: Input should be a valid number"):
        read_cards(own)
    own.write_text("cards: {Mine: {memory_gib: 10, tflops: 5}}\n")
    with pytest.raises(UserError, match="no table of cards"):
        read_cards(own)


def test_what_is_written_validates_and_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "fits.yaml"
    options = ["--card", "V100", "--memory", "2", "--cases", "6", "--write", str(profile)]
    precise = ("--set", "deepspeed.zero_optimization={stage: 2, offload_optimizer: {device: cpu}}")
    assert main(["plan", RECIPE, *SMALL, *precise, *options]) == 0
    said = capsys.readouterr().out
    for wanted in ("ASSUMED 12% of 125 TFLOP/s", "on each of 1 x V100 of 2 GiB", "RTX 4090"):
        assert wanted in said
    written = yaml.safe_load(profile.read_text())
    assert written["deepspeed"]["zero_optimization"] == {"stage": 0, "offload_optimizer": None}
    assert written["deepspeed"]["train_micro_batch_size_per_gpu"] == 2
    assert "ASSUMED" in profile.read_text()
    sets = ["text.width=12", "observers=[]"]
    recipe = load_recipe(RECIPE, ["smoke", str(profile)], sets)
    assert recipe.train.gradient_checkpointing is False
    encoded_run(recipe, tmp_path / "run")
    assert train(recipe, tmp_path / "run") == tmp_path / "run" / "model"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--card", "H1000X"], "the speed of H1000X is not known"),
        (["--memory", "-3"], "--memory -3"),
        (["--card", "T4", "--memory", "1.501"], "nothing fits 1 x T4 of 1.501 GiB"),
        (["--write", "profile.json"], "--write names no profile"),
        (["--dataset", "nowhere"], "no data set here"),
    ],
)
def test_a_mistake_is_one_message(
    options: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plan", RECIPE, *SMALL, *options]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())
