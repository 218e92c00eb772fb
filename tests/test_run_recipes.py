"""Every recipe of the repository runs from import to volumes at smoke size, and what it leaves."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.cli import main
from voxella.data.pseudonyms import read_synthetic
from voxella.hashing import sha256_file
from voxella.ldm.export import load_model
from voxella.recipe.load import load_recipe

OWN = {"phantom"}  # of other phantoms: not in the workspace that the others share
RECIPES = sorted(
    {p.stem for p in (REPOSITORY / "recipes").glob("*.yaml") if p.stem[0] != "_"} - OWN
)
WITH_HEAD = {"ccella", "ccella-released", "ccella-rflow", "first", "l1only", "last", "shared"}


@pytest.fixture(scope="module")
def workspace(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of this module's own: recipes that read text otherwise encode it anew."""
    folder = tmp_path_factory.mktemp("recipes") / "workspace"
    shutil.copytree(smoke_workspace, folder, ignore=shutil.ignore_patterns("run"))
    return folder


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def run(name: str, workspace: Path, out: Path, *more: str) -> None:
    command = ["run", str(REPOSITORY / "recipes" / f"{name}.yaml"), "--profile", "smoke"]
    assert main([*command, "--workspace", str(workspace), "--out", str(out), *more]) == 0


def _apart(workspace: Path, factory: pytest.TempPathFactory) -> Path:
    """A workspace beside the others', without text features, for a recipe that makes its own."""
    apart = factory.getbasetemp() / "paper-mode"
    if not apart.exists():
        shutil.copytree(workspace, apart, ignore=shutil.ignore_patterns("text"))
    return apart


def events(out: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(out / "tensorboard" / "train"), {"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_there_are_the_papers_nine_recipes_and_two_more() -> None:
    paper = {"base", "radbase", "ellabase", "decoupled", "l1only", "ccella"}
    assert set(RECIPES) >= paper | {"shared", "first", "last", "ccella-released", "ccella-rflow"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_its_data_to_volumes(
    name: str,
    workspace: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name == "ccella-released":
        workspace = _apart(workspace, tmp_path_factory)
    run(name, workspace, tmp_path)
    model = load_model(tmp_path / "model")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())

    counterparts = read_synthetic(tmp_path / "samples", Manifest.read(workspace / "prepared"))
    # One held-out case, which is measured, and one of training.
    sources = [
        (counterpart.extra["source_case"], counterpart.split) for counterpart in counterparts
    ]
    assert sources == [("phantom-00002", "test"), ("phantom-00000", "train")]
    assert json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["split"] == "test"
    assert (counterparts.cases[0].extra.get("predicted_label") is not None) == (name in WITH_HEAD)
    image = nib.load(counterparts.image_path(counterparts.cases[0], "t2w"))
    assert image.shape == (16, 16, 16)
    assert np.unique(np.asarray(image.dataobj)).size > 10
    assert np.unique(np.asarray(Image.open(tmp_path / "samples" / "montage.png"))).size > 10

    written = events(tmp_path)
    assert [event.step for event in written.Scalars("loss/total")] == [1, 2]
    assert ("loss/class" in written.Tags()["scalars"]) == (name in WITH_HEAD)
    # What was run can be run again from the run folder alone.
    assert load_recipe(tmp_path / "recipe.yaml").name == name

    said = capsys.readouterr().out
    for path in ("model/config.json", "samples/manifest.jsonl", "samples/montage.png"):
        assert str(tmp_path / path) in said


def test_features_made_otherwise_are_refused_and_never_overwritten(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paper mode pads and cuts reports at their beginning: it needs a cache of its own."""
    index = workspace / "text" / "index.json"
    before = index.read_bytes()
    words = ["run", str(REPOSITORY / "recipes" / "ccella-released.yaml"), "--profile", "smoke"]
    shared = [*words, "--workspace", str(workspace), "--out", str(tmp_path)]
    assert main(shared) == 2
    said = capsys.readouterr().err
    assert "were made with truncation 'right', the recipe says 'left'" in said
    assert f"rm -r {workspace / 'text'}" in said
    assert index.read_bytes() == before
    assert not (tmp_path / "train").exists()


def test_paper_mode_keeps_padded_features_cut_on_the_left(
    workspace: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    apart = _apart(workspace, tmp_path_factory)
    words = [str(REPOSITORY / "recipes" / "ccella-released.yaml"), "--profile", "smoke"]
    assert main(["encode", *words, "--workspace", str(apart), "--out", str(tmp_path)]) == 0
    made = json.loads((apart / "text" / "index.json").read_text())
    assert {entry["length"] for entry in made["texts"].values()} == {64}
    assert made["settings"]["truncation"] == "left"


def test_a_finished_run_is_left_alone_and_a_changed_one_is_refused(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("radbase", workspace, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert tmp_path / "report.html" in before
    run("radbase", workspace, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before
    capsys.readouterr()
    recipe = str(REPOSITORY / "recipes" / "radbase.yaml")
    options = ["--profile", "smoke", "--workspace", str(workspace), "--out", str(tmp_path)]
    assert main(["run", recipe, *options, "--set", "optimizer.lr=0.5"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "trained by another recipe" in said
    assert "optimizer.lr: 0.0001 -> 0.5" in said
    assert f"--out {tmp_path}-2" in said


def test_data_prepared_otherwise_are_trained_on_anew(workspace: Path, tmp_path: Path) -> None:
    """Other voxels under the same autoencoder settings are another training set."""
    own = tmp_path / "workspace"
    shutil.copytree(workspace, own)
    weights = own / "autoencoder" / "model.safetensors"
    fixed = [
        *("--set", "autoencoder_training=null"),
        *("--set", f"autoencoder.weights={weights}"),
    ]
    run("radbase", own, tmp_path / "run", *fixed)
    recipe = str(REPOSITORY / "recipes" / "radbase.yaml")
    options = ["--profile", "smoke", "--workspace", str(own), "--out", str(tmp_path / "run")]
    assert main(["run", recipe, *options, *fixed, "--set", "prepare.percentiles=[0,90]"]) == 2
    run("radbase", own, tmp_path / "other", *fixed, "--set", "prepare.percentiles=[0,90]")
    hashes = {sha256_file(tmp_path / n / "model" / "model.safetensors") for n in ("run", "other")}
    assert len(hashes) == 2


def test_what_tensorboard_shows_of_ccella(workspace: Path, tmp_path: Path) -> None:
    more = ["train.steps=4", "train.panel_every=2", "train.panel_steps=2", "train.validate_every=4"]
    settings = [word for pair in more for word in ("--set", pair)]
    run("ccella", workspace, tmp_path, *settings)
    written = events(tmp_path)
    tags = written.Tags()
    scalars = {name: [event.value for event in written.Scalars(name)] for name in tags["scalars"]}
    always = {
        *("loss/total", "loss/reconstruction", "lr", "grad_norm", "cases_per_second"),
        "memory_gib",
    }
    assert always <= set(scalars)
    assert all(len(scalars[name]) == 4 for name in always)
    # A class loss where a batch of two has a report, quartiles where a timestep fell into one.
    assert {"loss/class", "class_head/accuracy"} <= set(scalars)
    assert all(value in (0.0, 0.5, 1.0) for value in scalars["class_head/accuracy"])
    quartiles = {f"loss/timestep_quartile_{n}" for n in (1, 2, 3, 4)} & set(scalars)
    assert quartiles
    # Polynomial decay of power 2 from 1e-4 over four steps.
    assert scalars["lr"] == pytest.approx([1e-4 * (1 - n / 4) ** 2 for n in range(4)])
    assert all(value > 0 for value in scalars["grad_norm"])
    assert all(0.05 < value < 64 for value in scalars["memory_gib"])
    assert len(scalars["validation/reconstruction"]) == 1
    for step, event in enumerate(written.Scalars("loss/total")):
        class_loss = dict((e.step, e.value) for e in written.Scalars("loss/class")).get(
            event.step, 0.0
        )
        expected = scalars["loss/reconstruction"][step] + 1e-4 * class_loss
        assert event.value == pytest.approx(expected, rel=1e-6)

    text = written.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "name: ccella" in text
    assert "class_weight: 0.0001" in text

    assert {"panel/0", "panel/1"} <= set(tags["images"])
    panels = written.Images("panel/0")
    assert [panel.step for panel in panels] == [2, 4]
    # Three planes of 128 x 128 x 96 mm, 6 mm a pixel, two pixels between them.
    assert (panels[0].height, panels[0].width) == (21, 3 * 21 + 2 * 2)
    drawn = np.asarray(Image.open(tmp_path / "train" / "panels" / "step-00000002-0.png"))
    assert drawn.shape == (21, 67)
    assert np.unique(drawn).size > 10

    lines = [json.loads(line) for line in (tmp_path / "train" / "log.jsonl").open()]
    assert [line["loss/total"] for line in lines] == pytest.approx(scalars["loss/total"])


def test_panels_and_validation_change_no_weight(workspace: Path, tmp_path: Path) -> None:
    watched = ["--set", "train.panel_every=1", "--set", "train.validate_every=1"]
    run("shared", workspace, tmp_path / "watched", *watched, "--set", "train.panel_steps=2")
    run("shared", workspace, tmp_path / "plain")
    hashes = {
        sha256_file(tmp_path / n / "model" / "model.safetensors") for n in ("watched", "plain")
    }
    assert len(hashes) == 1


def test_a_split_without_cases_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", str(REPOSITORY / "recipes" / "base.yaml"), "--profile", "smoke"]
    two = ["--set", "data.importer.cases=2", "--set", "prepare.size=[8, 8, 8]"]
    two += ["--set", "latent.size=[2, 2, 2]", "--set", "sample.split=test"]
    assert main([*command, *two, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "the split test has no case" in said.err
    assert "--set sample.split=train" in said.err
    assert "== train" not in said.out
    assert (tmp_path / "prepared" / "manifest.jsonl").is_file()
