"""The recipes of PathLDM: what the paper says of each, and each runs to its page's numbers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from released_keys import unet_shapes
from tiny_run import REPOSITORY

from voxella.autoencoder.load import AutoencoderPlan, build_autoencoder
from voxella.case import Manifest
from voxella.cli import main
from voxella.data.pseudonyms import read_synthetic
from voxella.engine.optimizer import learning_rate_factor
from voxella.ldm.build import build_model
from voxella.ldm.export import load_model
from voxella.recipe.load import load_recipe
from voxella.weights import compare_keys
from voxella_backbones.ldm.keys import convert_unet

ROOT = REPOSITORY / "recipes" / "pathldm"
STAGES = ROOT / "autoencoders"
FILES = sorted(file.stem for file in ROOT.glob("[!_]*.yaml"))
RECIPES = [name for name in FILES if not name.startswith("cas-")]
# FID of tables 1, 4 and 6 of arXiv 2309.00748, typed from the paper; None: it has no number.
PAPER: dict[str, float | None] = {
    "f8-class": 48.14,
    "f4-class": 39.72,
    "f4-class-imagenet": 29.45,
    "clip": 10.64,
    "pathldm": 7.64,
    "random-summary": 22.16,
    "five-summaries": 7.34,
    "scratch": None,
    "medfusion-class": 46.49,
    "medfusion-text": 39.56,
    "moghadam": 105.81,
    "sd-finetune": 30.1,
}
# SSIM and MSE of tables 2 and 3, typed from the paper; factor and channels of the latent.
FIRST_STAGES: dict[str, tuple[float, float, int, int]] = {
    "stable-diffusion": (0.874, 25.795, 8, 4),
    "medfusion": (0.891, 21.401, 8, 8),
    "vq-f4": (0.961, 11.503, 4, 3),
    "deepglobe-f4-256": (0.958, 2.359, 4, 3),
    "deepglobe-f4-512": (0.957, 2.246, 4, 3),
    "deepglobe-f8-256": (0.845, 6.235, 8, 4),
    "deepglobe-f8-512": (0.846, 6.183, 8, 4),
}
# Accuracy of table 5, and what is learnt from.
SCORES = {
    "cas-real": (0.9031, "real"),
    "cas-synthetic": (0.8332, "synthetic"),
    "cas-real-synthetic": (0.9074, "both"),
}
BY_CLASS = {"f8-class", "f4-class", "f4-class-imagenet", "medfusion-class", "moghadam"}
MEDFUSION = {"medfusion-class", "medfusion-text"}
# It has no number, so it stands in no table and is run by itself.
ALONE = "scratch"
STUDIES = REPOSITORY / "recipes" / "studies"


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_each_row_of_the_paper_has_its_recipe() -> None:
    assert set(RECIPES) == set(PAPER)
    for name, fid in PAPER.items():
        recipe = load_recipe(ROOT / f"{name}.yaml")
        assert (None if recipe.paper is None else recipe.paper.fid) == fid
        assert os.access(ROOT / f"{name}.yaml", os.X_OK)
        assert recipe.image_channels == 3
        assert (recipe.text is None) is (name in BY_CLASS)
        assert (recipe.backbone.name == "maisi_unet") is (name in MEDFUSION)
        assert (recipe.sample.sampler, recipe.diffusion.steps) == ("ddim_leading", 1000)
        factor = recipe.prepare.size[0] // recipe.latent.size[0]
        by_factor = {1: [3], 4: [3], 8: [8 if name in MEDFUSION else 4]}
        assert recipe.latent.channels in by_factor[factor]
        # Every recipe drops its condition for guidance, and none drops what it has not.
        assert (recipe.dropout.text > 0, recipe.dropout.label > 0) == (
            name not in BY_CLASS,
            name in BY_CLASS,
        )


def test_the_papers_constants_are_the_papers() -> None:
    recipe = load_recipe(ROOT / "pathldm.yaml")
    assert (recipe.optimizer.lr, recipe.optimizer.warmup_steps) == (2e-5, 10000)
    assert (recipe.optimizer.decay_power, recipe.optimizer.weight_decay) == (0.0, 0.01)
    assert recipe.deepspeed["train_batch_size"] == 144
    assert (recipe.sample.steps, recipe.sample.guidance) == (50, 1.75)
    assert (recipe.latent.channels, recipe.latent.scale) == (3, 1.0)
    assert recipe.text is not None
    assert (recipe.text.width, recipe.text.max_tokens) == (512, 154)
    clip = load_recipe(ROOT / "clip.yaml").text
    assert clip is not None
    # Another encoder, and nothing else.
    assert clip.encoder.arguments["cyclic"] is True
    scratch = load_recipe(ROOT / "scratch.yaml")
    assert scratch.backbone.arguments["weights"] is None
    assert scratch.autoencoder == recipe.autoencoder


def test_the_first_stage_is_tuned_as_latent_diffusion_trained_it() -> None:
    training = load_recipe(ROOT / "pathldm.yaml").autoencoder_training
    assert training is not None
    assert training.adversarial is not None
    assert training.perceptual is not None
    assert (training.betas, training.lr, training.lr_schedule) == ((0.5, 0.9), 1.6e-4, "constant")
    assert training.adversarial.model_dump() == {
        "weight": 0.75,
        "loss": "hinge",
        "norm": "batch",
        "adaptive": True,
        "from_step": 0,
        "channels": 64,
        "layers": 3,
    }
    # Of images in [0, 1] the L1 is half as large: so is what stands beside it.
    assert training.perceptual.weight == 0.5
    assert training.deepspeed == {"gradient_clipping": 0}
    f8 = load_recipe(ROOT / "f8-class.yaml").autoencoder_training
    assert f8 is not None
    assert f8.adversarial is not None
    assert (f8.adversarial.weight, f8.adversarial.layers, f8.adversarial.from_step) == (0.6, 2, 1)
    medfusion = load_recipe(ROOT / "medfusion-class.yaml").autoencoder_training
    assert medfusion is not None
    assert medfusion.adversarial is not None
    assert not medfusion.adversarial.adaptive


def test_each_row_of_first_stages_has_its_recipe() -> None:
    assert {file.stem for file in STAGES.glob("*.yaml")} == set(FIRST_STAGES)
    for name, (ssim, mse, factor, channels) in FIRST_STAGES.items():
        recipe = load_recipe(STAGES / f"{name}.yaml")
        assert recipe.paper is not None
        row = recipe.paper
        assert (row.reconstruction_ssim, row.reconstruction_mse, row.fid) == (ssim, mse, None)
        assert os.access(STAGES / f"{name}.yaml", os.X_OK)
        edge = 512 if name.endswith("512") else 256
        assert recipe.prepare.size == [edge, edge]
        assert recipe.latent.size == [edge // factor] * 2
        assert recipe.latent.channels == channels
        # Those of Stable Diffusion and of the satellite images are measured as they are.
        tuned = name in ("vq-f4", "medfusion")
        assert (recipe.autoencoder_training is not None) is tuned
        given = recipe.autoencoder.arguments.get("weights")
        assert (given is None) is (name == "medfusion")


def test_each_score_of_the_paper_has_its_recipe() -> None:
    assert set(FILES) == set(PAPER) | set(SCORES)
    generator = load_recipe(ROOT / "pathldm.yaml")
    for name, (accuracy, learnt) in SCORES.items():
        recipe = load_recipe(ROOT / f"{name}.yaml")
        assert recipe.paper is not None
        assert (recipe.paper.accuracy, recipe.paper.fid) == (accuracy, None)
        assert recipe.paper.classifier == "resnet"
        assert os.access(ROOT / f"{name}.yaml", os.X_OK)
        # The same run folder as the generator's: nothing that it is made of differs.
        for block in ("data", "prepare", "text", "latent", "backbone", "train", "conditioner"):
            assert getattr(recipe, block) == getattr(generator, block)
        chosen = recipe.classify
        assert chosen is not None
        assert (chosen.training_set, chosen.label) == (learnt, "clinical")
        assert (chosen.classifier.name, chosen.classifier.arguments["depth"]) == ("resnet", 34)
        assert (chosen.train.epochs, chosen.deepspeed["train_batch_size"]) == (40, 256)
        assert (chosen.optimizer.lr, chosen.optimizer.weight_decay) == (1e-3, 0.0)
        rates = [
            learning_rate_factor(
                epoch, total_steps=40, power=0, milestones=chosen.optimizer.milestones
            )
            for epoch in range(40)
        ]
        assert rates == pytest.approx([1.0] * 20 + [0.1] * 10 + [0.01] * 10)


def test_the_baselines_are_what_their_papers_say() -> None:
    moghadam = load_recipe(ROOT / "moghadam.yaml")
    assert moghadam.prepare.intensity["he"].stain == "macenko"
    assert moghadam.autoencoder.name == "identity"
    assert moghadam.autoencoder_training is None
    assert moghadam.prepare.size == moghadam.latent.size == [128, 128]
    weighting = moghadam.loss.weighting
    assert weighting is not None
    assert (weighting.name, weighting.k, weighting.gamma) == ("p2", 1.0, 1.0)
    assert moghadam.loss.reconstruction == "mse"
    assert load_recipe(ROOT / "medfusion-class.yaml").sample.eta == 1.0
    stable = load_recipe(ROOT / "sd-finetune.yaml")
    assert (stable.latent.scale, stable.latent.channels) == (0.18215, 4)
    # One file holds U-Net and first stage; neither is trained from nothing, and one is not trained.
    assert stable.autoencoder.arguments["weights"] == stable.backbone.arguments["weights"]
    assert stable.autoencoder_training is None
    text = stable.text
    assert text is not None
    assert (text.width, text.max_tokens, text.encoder.arguments["cyclic"]) == (768, 77, False)


def test_stable_diffusions_networks_have_their_released_sizes() -> None:
    recipe = load_recipe(ROOT / "sd-finetune.yaml")
    with torch.device("meta"):
        denoiser: Any = build_model(recipe, to_be_trained=False).backbone
        coder: Any = build_autoencoder(AutoencoderPlan.of(recipe))
    assert sum(p.numel() for p in denoiser.parameters()) == 859_520_964
    assert sum(p.numel() for p in coder.parameters()) == 83_653_863
    channels, attention = [320, 640, 1280, 1280], [True, True, True, False]
    shapes = unet_shapes(channels, attention, res_blocks=2, context=768, latents=4)
    released = {
        f"model.diffusion_model.{name}": torch.empty(shape, device="meta")
        for name, shape in shapes.items()
    }
    assert compare_keys(denoiser.unet.state_dict(), convert_unet(released, 2)).fits


def study(name: str, out: Path, *more: str) -> dict[str, Any]:
    """Run a study at smoke size and return what it found."""
    words = ["study", str(STUDIES / f"{name}.yaml"), "--profile", "smoke", "--out", str(out)]
    # Intervals of one case are not looked at here.
    draws = ["--set", "evaluate.bootstrap=10", "--set", "evaluate.baseline_halves=2"]
    assert main([*words, *draws, *more]) == 0
    found: dict[str, Any] = json.loads((out / "table.json").read_text())
    for table in found["tables"]:
        assert {row["status"] for row in table["rows"]} == {"finished"}
        assert table["unfinished"] == []
        # Of phantoms and of a random network: the paper's numbers exist and are not shown.
        assert not any(c["paper_shown"] for row in table["rows"] for c in row["cells"].values())
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_the_demo_keeps_the_experiment_and_trains_on_small_tiles(name: str) -> None:
    bare, demo = (load_recipe(ROOT / f"{name}.yaml", profiles) for profiles in ([], ["demo"]))
    for block in ("loss", "dropout", "paper", "vectors", "data.classes"):
        assert attrgetter(block)(demo) == attrgetter(block)(bare)
    assert demo.conditioner.name == bare.conditioner.name
    assert demo.backbone.name == bare.backbone.name
    assert (demo.text is None) is (bare.text is None)
    # Two levels: what the first stage makes of a tile is what the U-Net was sized for.
    if bare.autoencoder.name == "identity":
        assert (demo.autoencoder.name, demo.autoencoder_training) == ("identity", None)
    else:
        assert (demo.autoencoder.name, len(demo.autoencoder.arguments["channels"])) == ("kl", 2)
    assert demo.prepare.size == [64, 64]
    assert demo.latent.size == ([64, 64] if demo.autoencoder.name == "identity" else [32, 32])
    assert demo.data.importer is not None
    assert demo.data.importer.arguments["pixels"] == 64
    # Nothing is read that is not there.
    for component in (demo.autoencoder, demo.backbone):
        assert component.arguments.get("weights") is None
    if demo.text is not None:
        assert demo.text.encoder.name == "minilm"
    assert demo.sample.sampler == ("dpmpp_2m" if name in MEDFUSION else "ddim_leading")
    # Held-out captions alone, all of them: what the adherence is counted on.
    assert (demo.sample.split, demo.sample.count) == ("test", None)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All recipes run, those of the tables by their studies, each once."""
    out = tmp_path_factory.mktemp("pathldm")
    found = study("pathldm-all", out)
    assert [len(table["rows"]) for table in found["tables"]] == [5, 6, 3]
    assert [len(table["verdicts"]) for table in found["tables"]] == [8, 18, 4]
    words = ["run", str(ROOT / f"{ALONE}.yaml"), "--profile", "smoke"]
    own = ["--workspace", str(out / "workspace"), "--out", str(out / f"pathldm-{ALONE}")]
    assert main([*words, *own, "--set", "sample.split=train"]) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows", "verdicts"), [("table2", 3, 5), ("table3", 4, 2)])
def test_a_study_of_first_stages_stands_beside_the_papers_rows(
    name: str, rows: int, verdicts: int, tmp_path: Path
) -> None:
    (table,) = study(f"pathldm-{name}", tmp_path)["tables"]
    assert (len(table["rows"]), len(table["verdicts"])) == (rows, verdicts)
    for row in table["rows"]:
        cells = row["cells"]
        assert 0 < cells["reconstruction_ssim"]["value"] < 1
        assert cells["reconstruction_mse"]["value"] > 0


@pytest.mark.slow
def test_the_study_of_scores_trains_its_generator_once(tmp_path: Path) -> None:
    (table,) = study("pathldm-table5", tmp_path)["tables"]
    assert [row["recipe"] for row in table["rows"]] == list(SCORES)
    assert all(0 <= row["cells"]["accuracy"]["value"] <= 1 for row in table["rows"])
    assert (tmp_path / "pathldm" / "model").is_dir()
    assert not any((tmp_path / name / "model").exists() for name in SCORES)


@pytest.mark.slow
def test_the_sweep_of_guidance_trains_once(tmp_path: Path) -> None:
    found = study("pathldm-guidance", tmp_path)
    (table,) = found["tables"]
    assert {row["run"] for row in table["rows"]} == {"pathldm"}
    sets = sorted(path.name for path in (tmp_path / "pathldm" / "samples").glob("*-*"))
    assert sets == sorted(f"steps-2_{row['recipe']}" for row in table["rows"])
    # Two steps teach nothing, so the tiles are alike; how they were made is written beside them.
    made = [Manifest.read(tmp_path / "pathldm" / "samples" / name).cases[0] for name in sets]
    assert [f"steps-2_guidance-{case.extra['guidance']:g}" for case in made] == sets
    log = (tmp_path / "pathldm" / "train" / "log.jsonl").read_text().splitlines()
    assert len(log) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_from_its_data_to_tiles_and_numbers(name: str, ran: Path) -> None:
    out = ran / load_recipe(ROOT / f"{name}.yaml").name
    shared = load_recipe(out / "recipe.yaml").workspace
    assert shared is not None
    model = load_model(out / "model")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())

    dataset = Manifest.read(shared / "dataset")
    assert len(dataset.cases[0].texts) == (5 if name == "five-summaries" else 1)
    counterparts = read_synthetic(out / "samples", Manifest.read(shared / "prepared"))
    assert [counterpart.split for counterpart in counterparts] == ["train"]
    for counterpart in counterparts:
        with Image.open(counterparts.image_path(counterpart, "he")) as picture:
            assert (picture.mode, picture.size) == ("RGB", (32, 32))
            assert np.unique(np.asarray(picture)).size > 10

    told = json.loads((out / "evaluation" / "metrics.json").read_text())
    for level in ("tumor", "til"):
        number = told["metrics"][f"adherence_{level}"]
        if name in BY_CLASS:
            assert number["value"] is None
            assert "reads no report" in number["note"]
            continue
        # On slides that nothing was trained on.
        held_out = [case for case in Manifest.read(shared / "prepared") if case.split != "train"]
        assert number["floor"]["n"] == len({case.group for case in held_out}) > 1
        if number["value"] is None:  # on tiles of 32 pixels the detector is not trusted with all
            assert f"right about the level of {level}" in number["note"]
        else:
            assert number["value"] in (0.0, 1.0)  # of one tile
    assert not {"adherence_presence", "adherence_side"} & set(told["metrics"])


@pytest.fixture(scope="module")
def first_stages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that all first stages share."""
    return tmp_path_factory.mktemp("first-stages")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_STAGES)
def test_a_first_stage_is_measured(
    name: str, first_stages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check-autoencoder", str(STAGES / f"{name}.yaml"), "--profile", "smoke"]
    assert main([*words, "--workspace", str(first_stages), "--out", str(tmp_path)]) == 0
    told = json.loads((first_stages / "autoencoder" / "check.json").read_text())
    measured = told["reconstruction"]
    assert 0 < measured["ssim"] < 1
    by_case = [row["mse_255"] for row in measured["by_case"].values()]
    assert measured["mse_255"] == pytest.approx(np.mean(by_case))
    assert "MSE of 0 to 255" in capsys.readouterr().out
    assert "paper" not in told, "these are phantoms"


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the generator that all scores share."""
    return tmp_path_factory.mktemp("cas")


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_a_score_runs_from_its_data_to_its_accuracy(
    name: str, classified: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(ROOT / f"{name}.yaml"), "--profile", "smoke", "--out", str(classified)]
    assert main(words) == 0
    found = json.loads((classified / "classify" / name / "metrics.json").read_text())
    assert found["classes"] == ["low", "high"]
    prepared = Manifest.read(classified / "prepared")
    tested = prepared.split("test")
    assert found["cases"]["test"] == len(tested) > 0
    made = 0 if name == "cas-real" else 2  # what the profile samples
    real = 0 if name == "cas-synthetic" else len(prepared.split("train"))
    assert found["cases"]["train"] == made + real
    rows = (classified / "classify" / name / "seed-0" / "predictions.jsonl").read_text()
    truth = {row["case"]: row["truth"] for row in map(json.loads, rows.splitlines())}
    # High tumour is class 2 or 3, whatever its lymphocytes. Both are there.
    assert set(truth.values()) == {0, 1}
    assert {case.id: truth[case.id] for case in tested} == {
        case.id: int(case.label in ("2", "3")) for case in tested
    }
    right = found["metrics"]["accuracy"]
    assert right["n"] == len({case.group for case in tested})  # slides
    assert found["not_comparable_with_paper"] == "the data are phantoms"
    assert "is not shown: the data are phantoms" in capsys.readouterr().out.replace("\n", " ")
