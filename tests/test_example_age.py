"""The example that conditions on the age: installed as third parties do, trained, asked for ages.

Core is as it is: that the example needs no line of it is what is tested.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from shell import environment
from tiny_run import REPOSITORY, encoded_run
from torch import Tensor

from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentWriter
from voxella.case import Case, Manifest
from voxella.ldm.export import load_model
from voxella.ldm.generate import GenerationSettings, generate
from voxella.ldm.request import request_for
from voxella.ldm.train import train
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

EXAMPLE = REPOSITORY / "examples" / "voxella-age"
RECIPE = EXAMPLE / "recipes" / "age.yaml"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build and install the example into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    pip = [sys.executable, "-m", "pip", "install", *options, str(target), str(EXAMPLE)]
    subprocess.run(pip, check=True)
    return target


def python(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=environment(PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_its_own_three_line_test_passes(site: Path) -> None:
    done = python(site, "-m", "pytest", str(EXAMPLE / "tests"), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert "15 passed" in done.stdout


def test_it_runs_on_phantoms_and_the_python_of_its_readme_makes_other_images_of_other_ages(
    site: Path, tmp_path: Path
) -> None:
    run = tmp_path / "runs" / "age"
    words = ["run", str(RECIPE), "--profile", "smoke", "--out", str(run)]
    # Six steps instead of two, or the network's zeros hide what it is told.
    more = ["--set", "train.steps=6", "--set", "optimizer.lr=0.01", "--set", "sample.guidance=2"]
    done = python(site, "-m", "voxella", *words, *more)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    facts = json.loads((run / "model" / "config.json").read_text())
    assert facts["conditions"]["age"]["cases_known"] == 3
    ages = {case.conditions["age"] for case in Manifest.read(run / "dataset")}
    made = {case.conditions["age"] for case in Manifest.read(run / "samples")}
    assert made <= ages
    readme = (EXAMPLE / "README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    script = tmp_path / "script.py"
    script.write_text(
        f"import os; os.chdir({str(tmp_path)!r})\n{code}"
        "nothing, = generator.generate(seed=1)\n"
        "import numpy\n"
        "numpy.savez('made.npz', young=young.array, old=old.array, nothing=nothing.array)\n"
    )
    done = python(site, str(script))
    assert done.returncode == 0, done.stderr[-4000:]
    arrays = np.load(tmp_path / "made.npz")
    for first, second in (("young", "old"), ("young", "nothing"), ("old", "nothing")):
        assert not np.array_equal(arrays[first], arrays[second]), (first, second)
    assert (tmp_path / "generated" / "45" / "generated-s000_t2w.nii.gz").is_file()
    told = json.loads((tmp_path / "generated" / "85" / "generated-s000.json").read_text())
    assert told["conditions"] == {"age": 85.0}


# Old and young differ by the mean of their latents: 1 and -1.
_LEVEL = {45.0: -1.0, 85.0: 1.0}


def taught(recipe: Recipe, run: Path) -> Tensor:
    """Train on latents whose level the age decides; return the level of what ages make."""
    folders = encoded_run(recipe, run, cases=8)
    cases = [
        case.model_copy(update={"conditions": {"age": list(_LEVEL)[n % 2]}})
        for n, case in enumerate(Manifest.read(folders.prepared))
    ]
    Manifest(folders.prepared, cases).write()
    shape = (recipe.latent.channels, *recipe.latent.size)
    for path in folders.latents.iterdir():
        path.unlink()
    sources = {case.id: case.id for case in cases}
    generator = torch.Generator().manual_seed(3)
    with LatentWriter(folders.latents, recipe.latent.dtype, key="aged", sources=sources) as writer:
        for case in cases:
            level = _LEVEL[float(case.conditions["age"] or 0)]
            mean = level + 0.2 * torch.randn(shape, generator=generator)
            writer.add(case.id, mean, torch.full(shape, -3.0))
    merge_latents(
        folders.latents,
        recipe.latent.dtype,
        key="aged",
        fingerprint="aged",
        sources=sources,
        train_ids=list(sources),
    )
    train(recipe, run)
    model = load_model(folders.model)
    asked = [
        Case(id="x", group="x", images={}, conditions=told, extra={"spacing_mm": [2, 2, 3]})
        for told in ({"age": 45.0}, {"age": 85.0}, {})
    ]
    classes, settings = recipe.data.classes, GenerationSettings.of(recipe)
    requests = [request_for(classes, recipe.conditions, case, None, "x") for case in asked]
    made = generate(model, settings, requests, device=torch.device("cpu"))
    return made.latents.flatten(1).mean(dim=1)


def test_it_learns_what_ages_look_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELLA_PLUGINS", "conditioners:age=voxella_age")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    settings = [
        *("train.steps=200", "train.checkpoint_every=200", "train.ema_decay=0.9", "observers=[]"),
        *("optimizer.lr=0.003", "optimizer.decay_power=0", "deepspeed.train_batch_size=8"),
        *("diffusion.schedule=rectified_flow", "diffusion.prediction=flow"),
        *("sample.sampler=euler", "sample.steps=10", "sample.guidance=1"),
        "backbone={name: dit3d, patch_size: 2, width: 24, depth: 1, heads: 2}",
    ]
    recipe = load_recipe(str(RECIPE), ["smoke"], settings)
    young, old, unknown = taught(recipe, tmp_path).tolist()
    # From the same noise; an age that is not known is neither.
    assert young < -0.5
    assert old > 0.5
    assert young < unknown < old
