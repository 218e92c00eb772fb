"""docs/how-to/models.md: every command and file of the walk-through, at small sizes.

The released files are MONAI's own classes with random weights, of the same form and smaller.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from safetensors.torch import load_file
from test_convert_parts import LICENCE, maisi_flow
from tiny_run import REPOSITORY

from voxella.case import Manifest
from voxella.cli import main
from voxella.ldm.build import build_model
from voxella.ldm.export import load_facts, load_model
from voxella.ldm.read_start import read_start
from voxella.recipe.load import load_recipe

PAGE = (REPOSITORY / "docs" / "how-to" / "models.md").read_text(encoding="utf-8")
# Over the profile smoke, which has an autoencoder of its own that it trains.
SMALL = """\
autoencoder:
  name: maisi
  weights: models/maisi-autoencoder/autoencoder.safetensors
  channels: [8, 16, 16]
  res_blocks: 1
  norm_groups: 8
autoencoder_training: null
sample: {count: 2}
"""
RECIPES = {"convert", "recipe", "train", "sample", "evaluate"}


def fences(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    lines = [line for fence in fences("console") for line in fence.splitlines()]
    return [shlex.split(line) for line in lines]


def test_the_page_shows_commands_in_no_other_fence() -> None:
    assert set(re.findall(r"^```(\w*)$", PAGE, flags=re.MULTILINE)) == {
        *("", "console", "yaml", "json")
    }
    assert PAGE.count("```") == 2 * sum(len(fences(n)) for n in ("console", "yaml", "json"))
    assert {line.split()[0] for line in "".join(fences("console")).splitlines()} == {"voxella"}


def write_autoencoder(path: Path) -> None:
    torch.manual_seed(2)
    module = AutoencoderKlMaisi(
        **{"spatial_dims": 3, "in_channels": 1, "out_channels": 1, "latent_channels": 4},
        num_channels=[8, 16, 16],
        num_res_blocks=[1, 1, 1],
        norm_num_groups=8,
        attention_levels=[False, False, False],
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    torch.save({"unet_state_dict": module.state_dict()}, path)


def write_studies(folder: Path) -> None:
    """Write the table of the page, of phantoms."""
    words = ["import", "phantom", "--out", str(folder / "phantoms"), "--set", "cases=6"]
    assert main([*words, "--set", "size=[40, 40, 16]", "--set", "spacing_mm=[4, 4, 6]"]) == 0
    manifest = Manifest.read(folder / "phantoms")
    (head,) = re.findall(r"^\| (id \|.*?) \|$", PAGE, flags=re.MULTILINE)
    with (folder / "studies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head.split(" | "))
        for case in manifest:
            text = "" if case.report is None else (manifest.folder / case.report).read_text()
            image = manifest.image_path(case, "t2w")
            writer.writerow([case.id, case.group, image, case.label, "mri_t2", text])


def first_prediction_is_the_released_one(recipe: Path) -> None:
    """The network of the page's recipe, as its training begins, and the converted one."""
    profiles = ["smoke", "small.yaml"]
    wanted = load_recipe(str(recipe), profiles)
    with torch.device("meta"):
        outline = build_model(wanted)
    start = read_start(wanted.init, outline)
    assert start is not None
    model, released = build_model(wanted).eval(), load_model(Path("models/maisi"))
    start.load(model)
    model.double()
    released.double()
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 4, 4, 4, generator=g, dtype=torch.float64)
    told: dict[str, Any] = {
        "timesteps": torch.tensor([99, 800]),
        "spacing_mm": torch.tensor([[0.5, 0.5, 3.0], [0.7, 0.7, 1.0]]),
        "conditions": {"modality": torch.tensor([[0.0, 0, 0, 1, 0], [0.0] * 5])},
    }
    more: dict[str, Any] = {
        "label": torch.tensor([0, 1]),
        "text_features": torch.randn(2, 7, 384, generator=g),
    }
    with torch.no_grad():
        expected = released.predict(x, told["timesteps"], released.condition(**told))
        found = model.predict(x, told["timesteps"], model.condition(**told, **more))
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_walk_through_ends_with_a_model_to_give_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    (tmp_path / "small.yaml").write_text(SMALL)
    flow = {"unet_state_dict": maisi_flow().state_dict(), "scale_factor": torch.tensor(1.05)}
    torch.save(flow, "diff_unet_3d_rflow-mr.pt")
    write_autoencoder(tmp_path / "autoencoder_v2.pt")
    write_studies(tmp_path)
    (recipe,), (prompts,) = fences("yaml"), fences("json")
    (tmp_path / "prostate.yaml").write_text(recipe)
    (tmp_path / "prompts.jsonl").write_text(prompts)
    told = {}
    for _, *words in commands():
        small = ["--profile", "smoke", "--profile", "small.yaml"]
        more = small if words[0] in RECIPES and "--model" not in words else []
        if words[0] in ("train", "sample", "evaluate") and more:
            more = [*more, "--workers", "1"]
        assert main([*words, *more]) == 0, words
        told[shlex.join(words)] = " ".join(capsys.readouterr().out.split())
        if words[:2] == ["recipe", "validate"]:
            first_prediction_is_the_released_one(tmp_path / "prostate.yaml")
            # The profiles name the autoencoder that the page's recipe does.
            wanted, used = (load_recipe("prostate.yaml", p) for p in ([], small[1::2]))
            weights = tmp_path / "models" / "maisi-autoencoder" / "autoencoder.safetensors"
            assert weights.is_file()
            for one in (wanted, used):
                assert one.autoencoder.arguments["weights"] == weights

    # What was taken from the release, and what is new.
    trained = told["train prostate.yaml --dataset DATASET --out runs/prostate"]
    assert "backbone: licence: NVIDIA Non-Commercial License" in trained
    assert "it was trained on latents times 1.05 " in trained
    both = {"backbone": LICENCE, "autoencoder": LICENCE}
    assert load_facts(Path("models/maisi")).licences == both
    facts = load_facts(Path("runs/prostate/model"))
    assert facts.licences == both
    assert facts.autoencoder_fingerprint == load_facts(Path("models/maisi")).autoencoder_fingerprint
    card = (tmp_path / "runs/prostate/model/README.md").read_text()
    assert f"- the frozen autoencoder `maisi`: {LICENCE}" in card
    assert f"- backbone: {LICENCE}" in card
    assert "Nothing was measured yet" not in card
    assert ModelCard.load(tmp_path / "runs/prostate/model/README.md").data.library_name == "voxella"
    # The adapters left MAISI's convolutions as they came, and their model is whole.
    base = load_file("models/maisi/model.safetensors")
    adapted = load_file("runs/adapters/model/model.safetensors")
    whole = load_file("runs/prostate/model/model.safetensors")
    kept = [name for name in base if ".resnets." in name and name.endswith("conv1.conv.weight")]
    assert kept
    assert all(torch.equal(base[name], adapted[name]) for name in kept)
    assert not all(torch.equal(base[name], whole[name]) for name in kept)
    assert adapted.keys() == whole.keys()
    # What goes out.
    assert len(list((tmp_path / "OUT/samples").rglob("*.nii.gz"))) == 1
    samples = [json.loads(line) for line in Path("runs/prostate/samples/manifest.jsonl").open()]
    assert len(samples) >= 1
    assert list((tmp_path / "dicom").rglob("*.dcm"))
