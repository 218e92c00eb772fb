"""Two volumes of one noise: the words that change, the two files, and what the page shows first."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from shell import environment
from tiny_run import REPOSITORY

from voxella.cli import main
from voxella.files import write_json_atomic
from voxella.ldm.train import train
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.sampling import Pair, Sample
from voxella.report.run_folder import RunFolder
from voxella.report.same_noise import SameNoise, same_noise_section
from voxella.sampling.pair import PAIR_FILE
from voxella.workspace.folders import Folders
from voxella.workspace.state import sealed

CCELLA = str(REPOSITORY / "recipes" / "ccella.yaml")
LEFT = "Left lobe: lesion in the left PZ. No leftover."


def test_whole_words_are_replaced() -> None:
    pair = Pair(report=LEFT, replace={"left": "right", "Left": "Right"})
    assert pair.changed == "Right lobe: lesion in the right PZ. No leftover."
    swapped = Pair(report="left or right", replace={"left": "right", "right": "left"})
    assert swapped.changed == "right or left"


def test_a_change_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="none of 'eft' is a word of the report"):
        Pair(report=LEFT, replace={"eft": "x"})


def test_recipes_without_a_pair_are_what_they_were() -> None:
    assert "pair" not in Sample().model_dump()


def picture(address: str) -> np.ndarray:
    data = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_page_shows_where_they_differ(tmp_path: Path) -> None:
    """The second is darker in a block at the patient's right, which is on the left of a picture."""
    recipe = load_recipe(CCELLA, ["smoke"])
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    folder = Folders.of(tmp_path, None, None).pair
    folder.mkdir()
    first = np.full((20, 20, 10), 0.6, np.float32)
    first[0, 0, 0] = 1.0
    first[1, 0, 0] = 0.0
    second = first.copy()
    second[12:16, 4:8, 6:9] -= 0.4
    for name, array in (("a.nii.gz", first), ("b.nii.gz", second)):
        nib.save(nib.Nifti1Image(array, np.diag([4.0, 4.0, 6.0, 1.0])), folder / name)
    reports = ["a lesion on the left", "a lesion on the <right>"]
    told = {"reports": reports, "images": ["a.nii.gz", "b.nii.gz"], "seed": 3}
    write_json_atomic(folder / PAIR_FILE, sealed(told))
    section = same_noise_section(RunFolder.open(tmp_path))
    assert section is not None
    data = section.data
    assert isinstance(data, SameNoise)
    assert data.sides[0].report == [("a lesion on the ", False), ("left", True)]
    assert "".join(words for words, _ in data.sides[1].report) == reports[1]
    assert data.largest == pytest.approx(0.4)  # of a range from 0 to 1
    axial = picture(data.differences[0]).astype(int)
    blue = (axial[..., 2] - axial[..., 0]) > 100
    rows, columns = np.nonzero(blue)
    height, width = blue.shape
    # Voxels 12 to 16 of 20 along R, drawn from the right; 4 to 8 along A, drawn from the front.
    assert abs(columns.mean() / width - (1 - 14 / 20)) < 0.05
    assert abs(rows.mean() / height - (1 - 6 / 20)) < 0.05
    assert abs(blue.mean() - (4 / 20) ** 2) < 0.015
    grey = [picture(side.pictures[0]) for side in data.sides]
    darker = grey[0][blue].astype(int) - grey[1][blue]
    assert np.median(darker) == pytest.approx(0.4 * 255, abs=6)  # its edges are interpolated


@pytest.fixture(scope="module")
def model(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with its autoencoder, apart from its run."""
    folder = tmp_path_factory.mktemp("trained")
    settings = [f"workspace={smoke_workspace}", "observers=[]"]
    train(load_recipe(CCELLA, ["smoke"], settings), folder)
    given = folder / "given"
    shutil.copytree(folder / "model", given)
    brought = given / "autoencoder"
    if not brought.is_dir():
        brought.mkdir()
        shutil.copy(smoke_workspace / "autoencoder" / "model.safetensors", brought)
    return given


def dry_run(*words: str) -> list[str]:
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo", *words],
        cwd=REPOSITORY,
        env=environment(MAKEFLAGS="", MAKEOVERRIDES=""),
        capture_output=True,
        text=True,
        check=True,
    )
    command = re.sub(r"\\\n", " ", done.stdout).splitlines()[-1]
    return shlex.split(command)


def test_the_demo_goes_on_from_any_model_and_opens_with_the_pair(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, *words = dry_run(f"MODEL={model}")
    assert name == ".venv/bin/voxella"
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    monkeypatch.chdir(tmp_path)
    smoke = ["--profile", str(REPOSITORY / "recipes" / "profiles" / "smoke.yaml")]
    # The profile of tests trains an autoencoder; no number is needed.
    small = ["autoencoder_training=null", "evaluate.metrics=[]", "sample.count=1"]
    sets = [word for pair in small for word in ("--set", pair)]
    assert main([*words, *smoke, *sets, "--workers", "1"]) == 0
    run = tmp_path / "runs" / "demo"
    page = (run / "report.html").read_text(encoding="utf-8")
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert sections[0] == "same-noise"
    assert page.index("<mark>left</mark>") < page.index("<mark>right</mark>")
    told = json.loads((run / "pair" / PAIR_FILE).read_text())
    assert told["reports"][0].replace("left", "right") == told["reports"][1]
    # It went on from the model: its autoencoder was taken, not trained, and 2 steps were done.
    assert not (run / "autoencoder" / "autoencoder.json").exists()
    assert len((run / "train" / "log.jsonl").read_text().splitlines()) == 2
    before, after = (run / "pair" / name for name in told["images"])
    assert nib.load(before).shape == nib.load(after).shape == (16, 16, 16)


def test_from_scratch_is_another_demo(model: Path) -> None:
    scratch = ["run", "recipes/ccella.yaml", "--profile", "demo", "--out", "runs/demo"]
    assert dry_run(f"MODEL={model}", "FROM_SCRATCH=1")[1:] == scratch
    assert dry_run("MODEL=")[1:] == scratch
