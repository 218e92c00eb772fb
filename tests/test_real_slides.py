"""A real slide, real tiles and real pathology reports: imported, encoded, trained on for 100 steps.

The slide is of skin, the tiles of lymph nodes, the reports of breasts, of other patients: pairs
made of them are artificial. They test the road and say nothing of medicine.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import REPOSITORY
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from voxella.cache.text import TextCache
from voxella.case import Manifest
from voxella.cli import main
from voxella.imaging.volume import read_image

HISTOLOGY = REPOSITORY.parent / "shared" / "data" / "histology"
SLIDE, REPORT = "cmu-1-small-region", "tcga1_42"
RECIPES = REPOSITORY / "recipes" / "pathldm"
# The paper's 154 cut none of these reports' summaries; so it is seen what a cut is.
LIMIT = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HISTOLOGY.is_dir(), reason=f"no real data: {HISTOLOGY} is absent"),
]

# Small enough for a core: everything else is the recipe's.
SMALL = """
extends: {recipe}
name: small
data: {{dataset: {dataset}, importer: null, classes: {classes}}}
prepare: {{size: [{side}, {side}]}}
autoencoder: {{weights: null, channels: [8, 16, 16], norm_groups: 8, codes: 64}}
autoencoder_training:
  {{steps: 2, batch_size: 2, patch_size: [64, 64], adversarial: null, perceptual: null}}
autoencoder_check: {{psnr_db: null, ssim: null}}
latent: {{size: [16, 16], crop: [64, 64]}}
backbone: {{weights: null, channels: [16, 32], attention: [false, true], norm_groups: 8}}
optimizer: {{warmup_steps: 10}}
train: {{steps: 100, checkpoint_every: 100, log_every: 10}}
deepspeed: {{train_batch_size: 2, torch_autocast: null}}
paper: null
"""


@pytest.fixture(scope="module", autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the commands of docs/how-to/slides.md: reports, summaries, captioned tiles."""
    pytest.importorskip("openslide")
    folder = tmp_path_factory.mktemp("slides")
    (folder / "reports").mkdir()
    source = HISTOLOGY / "reports_tcga_brca" / "text" / f"{REPORT}.txt"
    shutil.copy(source, folder / "reports" / f"{SLIDE}.txt")
    for name, csv in {"tumor": "breast-tumor-resnet34", "til": "pancancer-lymphocytes"}.items():
        (folder / name).mkdir()
        (table,) = (HISTOLOGY / "wsinfer_csv").glob(f"{csv}*.csv")
        shutil.copy(table, folder / name / f"{SLIDE}.csv")
    words = ["import", "wsi", str(HISTOLOGY / "wsi"), "--set", "magnification=10"]
    asked = {"most_tiles": 1, "summaries": folder / "reports", "text": "summary"}
    assert main([*words, *_sets(asked), "--out", str(folder / "first")]) == 0
    assert main(["summarise", str(folder / "first"), "--out", str(folder / "summaries")]) == 0
    asked = {
        **{"side": 128, "tumor": folder / "tumor", "til": folder / "til"},
        "summaries": folder / "summaries" / "summaries.csv",
    }
    assert main([*words, *_sets(asked), "--out", str(folder / "dataset")]) == 0
    return folder


def _sets(values: dict[str, Any]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def _overlay(folder: Path, recipe: str, dataset: Path, side: int, more: str, classes: str) -> Path:
    told = {"recipe": RECIPES / recipe, "dataset": dataset, "side": side, "classes": classes}
    path = folder / "mine.yaml"
    path.write_text(SMALL.format(**told) + more)
    return path


def _clip(folder: Path) -> Path:
    """CLIP's own vocabulary of 49,408 tokens before a network of random weights."""
    shutil.copytree(HISTOLOGY / "tokenizer_clip", folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    folder.chmod(0o755)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    CLIPTextModel(CLIPTextConfig(**sizes, num_attention_heads=2)).save_pretrained(folder)
    return folder


def _losses(run: Path) -> list[float]:
    lines = (run / "train" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss/reconstruction"] for line in lines]


def test_captions_are_levels_and_the_reports_own_words(slide: Path) -> None:
    manifest = Manifest.read(slide / "dataset")
    assert 20 < len(manifest) < 8 * 11, "the slide holds 8 x 11 tiles at 10x, some of them glass"
    captions = {manifest.read_report(case).strip() for case in manifest}
    assert len(captions) == 1, "the probabilities are of a slide of one colour"
    (caption,) = captions
    assert caption.startswith("low tumor; low til; ")
    source = HISTOLOGY / "reports_tcga_brca" / "annotation" / f"{REPORT}_annotation.json"
    annotated = json.loads(source.read_text())["cancer_data"]["histology"]
    assert annotated == "invasive_lobular_carcinoma"
    assert "lobular carcinoma" in caption
    assert len(caption.split()) <= 75 + 4
    assert len(list((slide / "dataset" / "reports" / SLIDE).iterdir())) == 1


def test_tiles_are_the_slides_pixels(slide: Path) -> None:
    """OpenSlide's own region, smoothed and halved, beside what the shard holds."""
    openslide = pytest.importorskip("openslide")
    manifest = Manifest.read(slide / "dataset")
    case = manifest.cases[len(manifest) // 2]
    with openslide.OpenSlide(HISTOLOGY / "wsi" / f"{SLIDE}.svs") as opened:
        place = (int(case.extra["x"]), int(case.extra["y"]))
        region = opened.read_region(place, 0, (256, 256)).convert("RGB").reduce(2)
    # A viewer's rows and columns; the reader's axes run towards right and anterior.
    tile = read_image(manifest.image_path(case, "he")).array[..., 0].transpose(2, 1, 0)[::-1, ::-1]
    assert np.abs(tile - np.asarray(region, np.float32)).mean() < 8
    assert case.extra["mpp"] == pytest.approx(0.998)


def test_captioned_tiles_train_for_100_steps(slide: Path) -> None:
    encoder = _clip(slide / "clip")
    text = f"text: {{encoder: {{path: {encoder}}}, width: 16, max_tokens: {LIMIT}}}\n"
    own = _overlay(slide, "pathldm.yaml", slide / "dataset", 128, text, '["0", "1", "2", "3"]')
    assert main(["check", str(slide / "dataset"), "--recipe", str(own)]) == 0
    run = slide / "run"
    assert main(["train", str(own), "--out", str(run), "--workers", "1"]) == 0
    # The slide's bytes are where they were: no file for a tile.
    assert not (run / "prepared" / "images").exists()
    assert not (run / "latents").exists()
    cache = TextCache.open(run / "text")
    manifest = Manifest.read(slide / "dataset")
    assert cache.length(cache.ids[0]) == LIMIT
    # The check and the encoding count alike, as CLIP's tokenizer itself does, and list the same.
    caption = manifest.read_report(manifest.cases[0]).strip()
    tokens = len(CLIPTokenizer.from_pretrained(encoder)(caption)["input_ids"])
    assert tokens > LIMIT
    rows = [f"{case.id},report,{tokens},{tokens - LIMIT}" for case in manifest]
    for folder in (run / "text", slide / "dataset" / "check"):
        told = (folder / "cut_texts.csv").read_text().splitlines()
        assert told == ["id,text,tokens,cut", *sorted(rows)]
    losses = _losses(run)
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    facts = json.loads((run / "prepared" / "stage.json").read_text())["facts"]
    assert facts["read_in_place"] == len(manifest)


def test_tiles_of_a_table_train_by_class_for_100_steps(tmp_path: Path) -> None:
    dataset, images = tmp_path / "dataset", HISTOLOGY / "tiles_camelyon16"
    asked = {"images": HISTOLOGY, "classes": "[normal, tumor]", "copy": "true"}
    words = ["import", "tiles", str(images), "--out", str(dataset), *_sets(asked)]
    assert main([*words, "--set", "val_share=0", "--set", "test_share=0"]) == 0
    manifest = Manifest.read(dataset)
    assert len(manifest) == len(list(images.rglob("*.png")))
    for case in manifest.cases[::20]:
        assert case.label is not None
        with Image.open(next((images / case.label).glob(f"{case.id}.png"))) as picture:
            expected = np.asarray(picture.convert("RGB"), np.float32)
        tile = read_image(manifest.image_path(case, "he")).array[..., 0]
        np.testing.assert_array_equal(tile.transpose(2, 1, 0)[::-1, ::-1], expected)
    own = _overlay(
        tmp_path,
        "f4-class.yaml",
        dataset,
        256,
        "conditioner: {width: 16}\n",
        "[normal, tumor]",
    )
    run = tmp_path / "run"
    assert main(["train", str(own), "--out", str(run), "--workers", "1"]) == 0
    losses = _losses(run)
    assert len(losses) == 10
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
