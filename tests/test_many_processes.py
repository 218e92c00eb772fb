"""Many processes leave what one leaves, byte by byte, though most of them have no case at all.

Eight here, in seconds; as many as a site has with VOXELLA_TEST_WORLD=64.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from shell import environment
from tiny_run import REPOSITORY

WORLD = int(os.environ.get("VOXELLA_TEST_WORLD", "8"))
DRIVER = REPOSITORY / "tests" / "world_driver.py"
RECIPE = str(REPOSITORY / "recipes" / "ccella.yaml")
CACHES = ("latents", "text", "evaluation", "tensorboard")

pytestmark = pytest.mark.slow


def work(world: int, verb: str, folder: Path) -> None:
    """Do a stage, and those before it that are missing, with so many processes."""
    places = ["--workspace", str(folder / "work"), "--out", str(folder / "run")]
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(world), verb, RECIPE, "--profile", "smoke", *places],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def made(world: int, folder: Path, prepared: Path, key: Path | None) -> Path:
    """Encode, sample and evaluate with so many processes; the model is trained by one."""
    shutil.copytree(prepared, folder / "work", ignore=shutil.ignore_patterns("run", *CACHES))
    if key is not None:  # the same names of cases
        (folder / "run").mkdir()
        shutil.copy2(key, folder / "run" / key.name)
    work(world, "encode", folder)
    work(1, "train", folder)
    work(world, "evaluate", folder)
    return folder


@pytest.fixture(scope="module")
def two(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of one process and of many."""
    one = made(1, tmp_path_factory.mktemp("one"), smoke_workspace, None)
    key = one / "run" / "pseudonyms.key"
    return one, made(WORLD, tmp_path_factory.mktemp("many"), smoke_workspace, key)


@pytest.mark.parametrize("cache", ["latents", "text"])
def test_caches_hold_the_same_tensors(two: tuple[Path, Path], cache: str) -> None:
    """Each process writes its own files: what is compared is what they hold."""
    one, many = (_tensors(folder / "work" / cache) for folder in two)
    assert one.keys() == many.keys()
    assert len(one) > 1
    assert all(torch.equal(one[name], many[name]) for name in one)
    shards = list((two[1] / "work" / "latents").glob("rank*.safetensors"))
    assert len(shards) > 1, "one process did it all"


@pytest.mark.parametrize("kind", ["*.nii.gz", "*.json", "*.safetensors", "*.png"])
def test_volumes_and_features_have_the_same_bytes(two: tuple[Path, Path], kind: str) -> None:
    found = [
        {
            path.relative_to(folder): path.read_bytes()
            for part in ("run/samples", "run/evaluation", "work/evaluation")
            for path in (folder / part).rglob(kind)
            if path.name not in ("stage.json", "metrics.json")
        }
        for folder in two
    ]
    assert found[0]
    assert found[0] == found[1]


def test_metrics_are_the_same(two: tuple[Path, Path]) -> None:
    one, many = (
        json.loads((folder / "run" / "evaluation" / "metrics.json").read_text()) for folder in two
    )
    # Where the samples lie, and the checksum over all that is written.
    for numbers, folder in zip((one, many), two, strict=True):
        text = json.dumps(numbers).replace(str(folder), "FOLDER")
        numbers.clear()
        numbers.update(json.loads(text))
        del numbers["seal"]
    assert one == many


def _tensors(cache: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(cache.glob("rank*.safetensors")):
        found |= load_file(path)
    return found
