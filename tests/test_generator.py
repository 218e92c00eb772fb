"""voxella.Generator: the volumes of the command line, from Python, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from tiny_run import REPOSITORY

from voxella import Generator
from voxella.case import Manifest
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.ldm.train import train
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.sampling.stage import sample

REPORT = "PI-RADS 4: lesion of 14 mm in the left peripheral zone."
CONDITIONED = (
    "conditions={age: {kind: number, range: [40, 90]}, site: {kind: category, values: [A, B]}}",
    "conditions.site.outside=missing",
    "vectors=[{name: class, scale: 100}, {name: age, scale: 100}, {name: site, scale: 1},"
    " {name: spacing, scale: 100}]",
)


def recipe_of(workspace: Path, *overrides: str) -> Recipe:
    settings = [f"workspace={workspace}", "observers=[]", *CONDITIONED, "sample.int16_scale=null"]
    return load_recipe(
        str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], [*settings, *overrides]
    )


@pytest.fixture(scope="module")
def run(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model was conditioned on the phantoms' ages, and on a site that none has."""
    folder = tmp_path_factory.mktemp("conditioned")
    # Enough for the age to be seen: a network begins with zeros in many places.
    train(recipe_of(smoke_workspace, "train.steps=6", "optimizer.lr=0.01"), folder)
    return folder


@pytest.fixture(scope="module")
def generator(run: Path) -> Generator:
    return Generator.open(run)


def prompts(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_it_makes_the_volumes_of_the_command_line_to_the_last_bit(
    smoke_workspace: Path, run: Path, generator: Generator, tmp_path: Path, guidance: float
) -> None:
    asked = {"report": REPORT, "label": "positive", "conditions": {"age": 63}}
    path = prompts(tmp_path / "p.jsonl", {"id": "one", **asked}, {"id": "bare"})
    shutil.copytree(run / "model", tmp_path / "run" / "model")
    overrides = [f"sample.prompts={path}", f"sample.guidance={guidance}"]
    overrides += ["seed=5", "sample.count=null"]
    out = sample(recipe_of(smoke_workspace, *overrides), tmp_path / "run")
    cases = {case.id: case for case in Manifest.read(out)}
    assert cases["one-s000"].conditions == {"age": 63.0}
    (one,) = generator.generate(
        report=REPORT,
        label="positive",
        conditions={"age": 63},
        seed=5,
        guidance=guidance,
        name="one",
    )
    (bare,) = generator.generate(seed=5, guidance=guidance, name="bare")
    for made in (one, bare):
        written = nib.load(Manifest.read(out).image_path(cases[made.name], "t2w"))
        assert np.array_equal(np.asarray(written.dataobj), made.array[0])
        assert np.array_equal(written.affine, made.affine)
        told = cases[made.name].extra
        for key in ("predicted_probabilities", "seed", "steps", "guidance", "model", "spacing_mm"):
            assert made.provenance[key] == told[key], key


def test_what_is_asked_for_decides_the_image_and_nothing_else(generator: Generator) -> None:
    asked: dict[str, Any] = {
        "report": REPORT,
        "label": "positive",
        "conditions": {"age": 45},
        "seed": 1,
    }
    first = generator.generate(**asked)[0].array
    assert np.array_equal(generator.generate(**asked)[0].array, first)
    changes: tuple[dict[str, Any], ...] = (
        {"report": "No lesion. PI-RADS 1."},
        {"report": None},
        {"conditions": {"age": 85}},
        {"conditions": {}},
        {"seed": 2},
        {"steps": 3},
        {"guidance": 4.0},
        {"name": "another"},
    )
    for change in changes:
        other = generator.generate(**{**asked, **change})[0].array
        assert not np.array_equal(other, first), change


def test_count_names_and_affine(generator: Generator) -> None:
    made = generator.generate(count=3, spacing_mm=[8, 8, 5], name="x")
    assert [one.name for one in made] == ["x-s000", "x-s001", "x-s002"]
    assert len({one.array.tobytes() for one in made}) == 3
    for one in made:
        assert one.array.shape == (1, 16, 16, 16)
        assert one.array.dtype == np.float32
        assert 0 <= one.array.min() <= one.array.max() <= 1
        assert np.diag(one.affine).tolist() == [8, 8, 5, 1]
        # The centre of the volume is the origin.
        assert (one.affine @ [7.5, 7.5, 7.5, 1]).tolist() == [0, 0, 0, 1]
    assert np.array_equal(
        generator.generate(spacing_mm=[8, 8, 5], name="x")[0].array, made[0].array
    )


def test_an_image_is_saved_with_its_provenance_and_no_text(
    generator: Generator, run: Path, tmp_path: Path
) -> None:
    (made,) = generator.generate(report=REPORT, label="negative", conditions={"age": 50}, seed=3)
    volume, told = made.save(tmp_path / "out")
    assert volume.name == "generated-s000_t2w.nii.gz"
    assert np.array_equal(np.asarray(nib.load(volume).dataobj), made.array[0])
    provenance = json.loads(told.read_text())
    assert provenance == made.provenance
    assert provenance["model"] == sha256_file(run / "model" / "model.safetensors")
    assert (provenance["seed"], provenance["label"]) == (3, "negative")
    assert provenance["conditions"] == {"age": 50.0}
    assert provenance["has_report"] is True
    assert REPORT not in told.read_text()
    assert not any(REPORT.encode() in p.read_bytes() for p in run.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"label": "perhaps"}, "label is none of negative, positive"),
        ({"conditions": {"age": 30}}, "condition age is not a number from 40 to 90"),
        ({"conditions": {"age": "old"}}, "condition age is a word, not a number"),
        ({"conditions": {"age": True}}, "conditions is not numbers and words"),
        ({"conditions": {"height": 180}}, "a name that the recipe has not; expected: age, site"),
        ({"conditions": {"site": "A"}}, "condition site: no training case had this word"),
        ({"spacing_mm": [1, 1]}, "spacing_mm has 2 entries, and there are 3 axes"),
        ({"spacing_mm": [80, 8, 6]}, "far from what the model was trained on"),
        ({"report": "%PDF-1.7 a document"}, "report "),
        ({"report": "no\0text"}, "report holds characters that are no text"),
        ({"report": 4}, "report is not a text in quotes"),
        ({"steps": 0}, "sample.steps: received 0"),
        ({"sampler": "huen"}, "sample.sampler: received 'huen'"),
        ({"sampler": "euler"}, "sampler"),
        ({"guidance": -1.0}, "sample.guidance"),
        ({"seed": -1}, "seed: received -1"),
        ({"count": 0}, "count: received 0"),
        ({"name": "../up"}, "generate: name is not letters, digits"),
    ],
)
def test_what_it_refuses(generator: Generator, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        generator.generate(**asked)


def test_a_report_in_a_wrong_place_is_not_repeated(generator: Generator) -> None:
    for wrong in ({"label": REPORT}, {"conditions": {REPORT: 1}}, {"conditions": {"age": REPORT}}):
        with pytest.raises(UserError) as refused:
            generator.generate(**wrong)
        assert REPORT not in str(refused.value)


def opened(folder: Path, settings: Sequence[str] = (), **more: Any) -> Generator:
    return Generator.open(folder, settings=settings, **more)


def test_it_opens_a_run_or_a_model_and_says_what_is_missing(
    smoke_workspace: Path, run: Path, generator: Generator, tmp_path: Path
) -> None:
    wanted = generator.generate(seed=1)[0].array
    assert np.array_equal(opened(run / "model").generate(seed=1)[0].array, wanted)
    shutil.copytree(run / "model", tmp_path / "moved")
    # It has its autoencoder with it; one from before that has not, and says so.
    assert np.array_equal(opened(tmp_path / "moved").generate(seed=1)[0].array, wanted)
    shutil.rmtree(tmp_path / "moved" / "autoencoder")
    with pytest.raises(UserError, match="exported without its autoencoder"):
        opened(tmp_path / "moved", ["workspace=null"])
    elsewhere = opened(
        tmp_path / "moved", ["workspace=null"], autoencoder=smoke_workspace / "autoencoder"
    )
    assert np.array_equal(elsewhere.generate(seed=1)[0].array, wanted)
    with pytest.raises(UserError, match="not an exported model"):
        opened(tmp_path)
    with pytest.raises(UserError, match="conditions age: the recipe says otherwise"):
        opened(run, ["conditions.age.range=[30,90]"])
    (tmp_path / "moved" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is not the file that was exported"):
        opened(tmp_path / "moved", autoencoder=smoke_workspace / "autoencoder").generate()


def test_prompts_with_conditions_are_judged_by_line(
    smoke_workspace: Path, run: Path, tmp_path: Path
) -> None:
    path = prompts(
        tmp_path / "p.jsonl",
        {"id": "good", "conditions": {"age": 63, "site": None}},
        {"id": "old", "conditions": {"age": 120}},
        {"id": "what", "conditions": {REPORT: 1}},
        {"id": "kind", "conditions": {"age": [1]}},
        {"id": "site", "conditions": {"site": "B"}},
    )
    with pytest.raises(UserError) as refused:
        sample(recipe_of(smoke_workspace, f"sample.prompts={path}"), run)
    told = str(refused.value)
    assert f"{path}:2: condition age is not a number from 40 to 90" in told
    assert f"{path}:3: conditions: a name that the recipe has not; expected: age, site" in told
    assert f"{path}:4: conditions" in told
    assert f"{path}:5: condition site: no training case had this word" in told
    assert ":1:" not in told
    assert REPORT not in told


def test_a_changed_age_makes_its_volume_anew(
    smoke_workspace: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "model", tmp_path / "run" / "model")

    def made(age: float) -> tuple[bytes, int]:
        path = prompts(tmp_path / "p.jsonl", {"id": "a", "conditions": {"age": age}})
        out = sample(recipe_of(smoke_workspace, f"sample.prompts={path}"), tmp_path / "run")
        volume = out / "volumes" / "a-s000_t2w.nii.gz"
        return volume.read_bytes(), volume.stat().st_mtime_ns

    first = made(50)
    assert made(50) == first
    assert made(70)[0] != first[0]


def test_it_is_loaded_lazily() -> None:
    import subprocess
    import sys

    code = "import sys, voxella; voxella.UserError; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
