"""Every command and every line of Python that README and guides show, as it stands there.

Of the guides, what is in a fence of the language ``sh``; README has no other.

Each runs in a folder that looks like the user's: their relative paths and placeholders are
real files in it. All that a test adds is sizes, at the end of the command line.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.bundle import run as run_bundle
from shell import environment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import REPOSITORY
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from voxella.cache.latents import LatentCache
from voxella.cache.text import TextCache
from voxella.case import Manifest
from voxella.cli import main
from voxella.hashing import sha256_file
from voxella.ldm.export import load_model
from voxella.recipe.load import load_recipe
from voxella.testing.small_models import SMALL_MODELS, small_model
from voxella_backbones.autoencoder_plugin import build_maisi

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCS = REPOSITORY / "docs"
GUIDES = "".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md")))
NETWORK = (DOCS / "reference" / "api" / "generator.md").read_text(encoding="utf-8")
DATA = REPOSITORY.parent / "shared" / "data"
PICAI = DATA / "picai"
PROSTATEX = DATA / "prostatex_dicom" / "ProstateX-0000"

_WEIGHTS = (
    "--set text.encoder.path=WEIGHTS/flan-t5-xxl "
    "--set autoencoder.weights=WEIGHTS/maisi_autoencoder.pt"
)
_PAPER = f"recipes/ccella.yaml --profile gpu80 --dataset DATASET --out runs/ccella {_WEIGHTS}"
MAKE_DEMO = "make demo"
MAKE_TEST = "make test"
IMPORT_TABLE = "voxella import table studies.csv --out DATASET"
RUN_FIRST = "voxella run recipes/ccella.yaml --profile two-cores --dataset DATASET --out runs/first"
IMPORT_PICAI = (
    "voxella import picai PICAI/images --out DATASET --set labels=PICAI/picai_labels "
    "--set reports=REPORTS --set reports_map=MAP.json"
)
CHECK = "voxella check DATASET"
IMPORT_DICOM = "voxella import dicom DICOM --out DATASET"
TRAIN_PAPER = f"deepspeed --module voxella {_PAPER}"
SAMPLE_PAPER = f"voxella sample {_PAPER}"
TENSORBOARD = "tensorboard --logdir runs"
SHOW = "voxella recipe show recipes/ccella.yaml --profile demo"
DIFF = "voxella recipe diff recipes/ccella.yaml recipes/first.yaml"
VALIDATE = "voxella recipe validate recipes/ccella.yaml recipes/base.yaml"
RUN_GUIDED = (
    "voxella run recipes/ccella.yaml --profile demo --out runs/guided "
    "--set sample.guidance=2 --set dropout.both=0.1"
)
PLUGINS = "voxella plugins"
PLUGINS_CHECK = "voxella plugins check ella"
SAMPLE_MODEL = (
    "voxella sample --model FOLDER --report 'PI-RADS 4 lesion in the left peripheral zone.' "
    "--count 2 --seed 0 --out OUT"
)
SAMPLE_PROMPTS = "voxella sample --model FOLDER --prompts prompts.jsonl --out OUT"
EXPORT_BUNDLE = "voxella export monai-bundle FOLDER --out bundle"
RUN_BUNDLE = (
    "python -m monai.bundle run --config_file bundle/configs/inference.json "
    "--meta_file bundle/configs/metadata.json --bundle_root bundle --seed 0"
)
TESTED = {
    *(MAKE_DEMO, MAKE_TEST, IMPORT_TABLE, CHECK, RUN_FIRST, IMPORT_DICOM, IMPORT_PICAI),
    *(TRAIN_PAPER, SAMPLE_PAPER),
    *(SAMPLE_MODEL, SAMPLE_PROMPTS, EXPORT_BUNDLE, RUN_BUNDLE),
    *(TENSORBOARD, SHOW, DIFF, VALIDATE, RUN_GUIDED, PLUGINS, PLUGINS_CHECK),
}

# The profile smoke lies over the others and makes everything small.
SMOKE = ["--profile", "smoke", "--workers", "1"]


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


# The Python of the reference gives a latent of this profile's size, so the grid stays.
FIRST_SIZES = [
    *("--workers", "1"),
    *settings(
        *("autoencoder.channels=[8, 8, 8]", "autoencoder_training.steps=1", "train.steps=2"),
        *("backbone.channels=[8, 16]", "backbone.attention=[false, true]"),
        *("backbone.head_channels=8", "backbone.norm_groups=8", "deepspeed.train_batch_size=2"),
        *("train.log_every=1", "sample.count=1", "sample.steps=2"),
    ),
]
# The paper's own components: encoder, autoencoder, U-Net, conditioner of six blocks and ancestral
# sampler, with the profile's ZeRO stage; smaller, with fewer timesteps, in float32.
PAPER_SIZES = [
    *("--workers", "1"),
    *settings(
        *("prepare.size=[16, 32, 16]", "latent.size=[4, 8, 4]", "text.width=16"),
        *("text.max_tokens=64", "autoencoder.channels=[4, 8, 8]", "autoencoder.res_blocks=1"),
        *("autoencoder.norm_groups=4", "backbone.channels=[8, 16]", "backbone.res_blocks=1"),
        *("backbone.attention=[false, true]", "backbone.head_channels=8", "backbone.norm_groups=8"),
        *("conditioner.width=16", "conditioner.queries=4", "conditioner.heads=2"),
        *("conditioner.head_hidden=8", "train.epochs=null", "train.steps=2", "train.log_every=1"),
        *("deepspeed.train_batch_size=4", "deepspeed.train_micro_batch_size_per_gpu=2"),
        *("deepspeed.torch_autocast=null", "sample.count=2"),
        *("diffusion.steps=100", "sample.steps=100", "diffusion.beta_end=0.195"),
    ),
]


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> set[str]:
    """Return a text's commands, each on one line, without comments."""
    lines = "".join(blocks("sh", text)).replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return {shlex.join(words) for words in split if words}


def say(command: str, *more: str) -> int:
    """Run a command of voxella in this process."""
    name, *words = shlex.split(command)
    assert name == "voxella"
    return main([*words, *more])


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the recipes in it, for one test."""
    (tmp_path / "recipes").symlink_to(REPOSITORY / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def study(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with ``studies.csv``, imported and run by the README's commands."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "recipes").symlink_to(REPOSITORY / "recipes")
    write_table(Manifest.read(smoke_workspace / "dataset"), folder / "studies.csv")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert say(IMPORT_TABLE) == 0
        assert say(CHECK, "--workers", "1") == 0
        assert say(RUN_FIRST, *FIRST_SIZES) == 0
    signal.signal(signal.SIGTERM, before)
    return folder


def write_table(manifest: Manifest, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "patient", "t2w", "label", "report"])
        for case in manifest:
            text = "" if case.report is None else (manifest.folder / case.report).read_text()
            image = manifest.image_path(case, "t2w")
            writer.writerow([case.id, case.group, image, case.label, text])


def write_flan_t5(folder: Path) -> None:
    """Write a small random model as FLAN-T5 is published: shards, spare rows, a Unigram tokenizer.

    Its pieces are characters, so every report is read and none is unknown.
    """
    torch.manual_seed(0)
    config = T5Config(
        **{"vocab_size": 128, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 2},
        num_layers=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder, max_shard_size="8KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    characters = ["\u2581", *(chr(code) for code in range(33, 127))]
    pieces = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>")]
    pieces += [(character, -2.0) for character in characters]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")  # T5's does so, too
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def write_maisi(path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"channels": [4, 8, 8], "norm_groups": 4, "res_blocks": 1}
    network = build_maisi(spatial_dims=3, in_channels=1, latent_channels=4, **sizes)
    assert isinstance(network, torch.nn.Module)
    torch.save(network.state_dict(), path)


def made(samples: Path) -> list[nib.Nifti1Image]:
    """Return the volumes of a manifest, each with more than a constant in it."""
    manifest = Manifest.read(samples)
    images = [nib.load(manifest.image_path(case, "t2w")) for case in manifest]
    assert all(np.unique(np.asarray(image.dataobj)).size > 10 for image in images)
    assert (samples / "montage.png").is_file()
    return images


def test_every_command_has_a_test() -> None:
    assert commands(README) <= TESTED
    assert commands(README) | commands(GUIDES) == TESTED
    # No command stands in a fence that is not looked at.
    assert set(re.findall(r"^```(\w*)$", README, flags=re.MULTILINE)) == {"", "sh", "python"}
    assert README.count("```") == 2 * (len(blocks("sh", README)) + len(blocks("python", README)))
    assert len(blocks("python", README)) == len(blocks("python", NETWORK)) == 1


@pytest.fixture(scope="module")
def dry_run() -> dict[str, list[str]]:
    """What ``make demo`` and ``make test`` would run here."""
    found = {}
    for command in (MAKE_DEMO, MAKE_TEST):
        name, target = shlex.split(command)
        done = subprocess.run(
            [name, "--no-print-directory", "-n", target],
            cwd=REPOSITORY,
            # Of the demo that trains from nothing; test_pair.py goes on from a model.
            env=environment(MAKEFLAGS="", MAKEOVERRIDES="", MODEL=""),
            capture_output=True,
            text=True,
            check=True,
        )
        found[command] = done.stdout.splitlines()
    return found


def test_make_test_runs_every_check(dry_run: dict[str, list[str]]) -> None:
    whole = "pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder"
    for line in ("ruff check .", "ruff format --check .", "mypy", whole):
        assert f".venv/bin/{line}" in dry_run[MAKE_TEST]


def test_make_demo_runs_a_command_that_works(home: Path, dry_run: dict[str, list[str]]) -> None:
    command = dry_run[MAKE_DEMO][-1].removeprefix(".venv/bin/")
    assert command == "voxella run recipes/ccella.yaml --profile demo --out runs/demo"
    assert say(command, *SMOKE) == 0
    assert len(made(home / "runs" / "demo" / "samples")) == 2  # of a test and of a training case
    assert (home / "runs" / "demo" / "report.html").is_file()


def test_the_demo_is_what_the_readme_says() -> None:
    """Eight volumes of phantom cases, by an autoencoder trained in place."""
    recipe = load_recipe(str(REPOSITORY / "recipes" / "ccella.yaml"), ["demo"])
    assert recipe.sample.count == 8
    assert recipe.data.importer is not None
    assert recipe.data.importer.name == "phantom"
    assert recipe.autoencoder_training is not None
    assert recipe.conditioner.name == "ccella"


def test_a_table_is_imported_and_run(study: Path, smoke_workspace: Path) -> None:
    source = Manifest.read(smoke_workspace / "dataset")
    imported = Manifest.read(study / "DATASET")
    assert [(case.id, case.label) for case in imported] == [(c.id, c.label) for c in source]
    assert sum(case.report is not None for case in imported) > 0
    (image,) = made(study / "runs" / "first" / "samples")
    assert image.shape == (64, 64, 32)
    assert image.header.get_zooms() == pytest.approx((2.0, 2.0, 3.0))


def test_the_run_folder_holds_what_the_table_says(study: Path) -> None:
    page = (DOCS / "reference" / "folders.md").read_text(encoding="utf-8")
    table = page.split("| path in `RUN` | what |\n|---|---|\n")[1].split("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines()]
    named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(named) == 18
    # The data set was given; a classifier and the page were not asked for, and nobody works here.
    for name in set(named) - {"dataset/", "classify/NAME/", "report.html", ".lock", "snapshots/"}:
        assert (study / "runs" / "first" / name).exists(), name


def test_a_model_makes_volumes_without_its_run(study: Path, home: Path) -> None:
    shutil.copytree(study / "runs" / "first" / "model", home / "FOLDER")
    assert say(SAMPLE_MODEL) == 0
    assert len(made(home / "OUT" / "samples")) == 2
    (home / "prompts.jsonl").write_text('{"id": "a"}\n')
    assert say(SAMPLE_PROMPTS) == 0
    assert len(made(home / "OUT" / "samples")) == 1


def test_monai_runs_the_bundle(home: Path) -> None:
    short = {"steps": 12, "beta_start": 0.02, "beta_end": 0.9}
    small_model(home, {**SMALL_MODELS["volume"], "diffusion": short}).rename(home / "FOLDER")
    assert say(EXPORT_BUNDLE) == 0
    name, module, bundle, verb, *words = shlex.split(RUN_BUNDLE)
    assert (name, module, bundle, verb) == ("python", "-m", "monai.bundle", "run")
    # As MONAI's command line calls it, for which a package of its own is needed.
    options = {
        key.removeprefix("--"): text for key, text in zip(words[::2], words[1::2], strict=True)
    }
    run_bundle(run_id="run", **options | {"seed": int(options["seed"])})
    assert len(list((home / "bundle" / "output").glob("*.nii.gz"))) == 1


def test_a_run_ends_with_its_page(study: Path) -> None:
    page = (study / "runs" / "first" / "report.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")


def test_tensorboard_finds_the_run(study: Path) -> None:
    name, option, folder = shlex.split(TENSORBOARD)
    assert (name, option) == ("tensorboard", "--logdir")
    assert shutil.which(name, path=environment()["PATH"]) is not None
    files = list((study / folder).rglob("*tfevents*"))
    assert files
    steps = set()
    for log in {file.parent for file in files}:
        accumulator = EventAccumulator(str(log), {"scalars": 0})
        accumulator.Reload()
        if "loss/total" in accumulator.Tags()["scalars"]:
            steps |= {event.step for event in accumulator.Scalars("loss/total")}
    assert steps >= {1, 2}


def test_the_python_runs(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study)
    names: dict[str, Any] = {}
    torch.manual_seed(0)
    exec(blocks("python", NETWORK)[0], names)
    assert names["noise"].shape == (1, 4, 16, 16, 8)
    assert bool(names["noise"].isfinite().all())
    assert names["told"].class_logits.shape == (1, 2)


def test_four_lines_make_a_volume(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study)
    names: dict[str, Any] = {}
    exec(blocks("python", README)[0], names)
    image = names["image"]
    assert image.array.shape[0] == 1
    written = nib.load(study / "generated" / "generated-s000_t2w.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), image.array[0])
    assert str(image.array.shape) in capsys.readouterr().out
    told = json.loads((study / "generated" / "generated-s000.json").read_text())
    assert (told["label"], told["seed"], told["has_report"]) == ("positive", 7, True)


@pytest.mark.skipif(not (PICAI / "images").is_dir(), reason=f"no real data: {PICAI} is absent")
def test_picai_is_imported(home: Path) -> None:
    (home / "PICAI").symlink_to(PICAI)
    (home / "REPORTS").mkdir()
    # The guide's own example of a map.
    (example,) = re.findall(r"\(`(\{\"11.*?\})`\)", GUIDES)
    assert list(json.loads(example)) == ["11373_1001396"]
    (home / "MAP.json").write_text(example)
    report = home / "REPORTS" / json.loads(example)["11373_1001396"]
    report.write_text("Lesion of PI-RADS 4 in the left peripheral zone.\n")
    # Two studies are too few to hold any out.
    assert say(IMPORT_PICAI, *settings("val_share=0", "test_share=0")) == 0
    cases = {case.id: case for case in Manifest.read(home / "DATASET")}
    assert cases["11373_1001396"].report_sha256 == sha256_file(report)
    assert [case.id for case in cases.values() if case.report is not None] == ["11373_1001396"]
    assert {case.label for case in cases.values()} == {"positive"}


@pytest.mark.skipif(not PROSTATEX.is_dir(), reason=f"no real data: {PROSTATEX} is absent")
def test_dicom_is_imported(home: Path) -> None:
    (home / "DICOM").symlink_to(PROSTATEX)
    # One study is too few to hold any out.
    assert say(IMPORT_DICOM, *settings("val_share=0", "test_share=0")) == 0
    (case,) = Manifest.read(home / "DATASET")
    assert list(case.images) == ["t2w"]


@pytest.fixture(scope="module")
def paper(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder where DeepSpeed's launcher has trained at the paper's settings."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "recipes").symlink_to(REPOSITORY / "recipes")
    (folder / "DATASET").symlink_to(study / "DATASET")
    write_flan_t5(folder / "WEIGHTS" / "flan-t5-xxl")
    write_maisi(folder / "WEIGHTS" / "maisi_autoencoder.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        launcher = ["deepspeed", "--num_gpus", "1", "--master_port", str(probe.getsockname()[1])]
    done = subprocess.run(
        [*launcher, *shlex.split(TRAIN_PAPER)[1:], *PAPER_SIZES],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (folder / "runs" / "ccella" / "samples").exists(), "this command trains"
    return folder


def test_the_launcher_trains_at_the_papers_settings(paper: Path) -> None:
    run = paper / "runs" / "ccella"
    # It is frozen: measured before it is used, not trained.
    assert {path.name for path in (run / "autoencoder").glob("*.json")} <= {
        *("check.json", "tiling.json")
    }
    assert (run / "autoencoder" / "check.json").is_file()
    logged = [json.loads(line) for line in (run / "train" / "log.jsonl").open()]
    assert [line["step"] for line in logged] == [1, 2]
    assert all(np.isfinite(line["loss/total"]) for line in logged)
    recipe = load_recipe(str(run / "recipe.yaml"))
    assert recipe.deepspeed["zero_optimization"] == {"stage": 2}
    assert (recipe.diffusion.schedule, recipe.sample.sampler) == ("scaled_linear", "ddpm")


def test_the_papers_autoencoder_makes_the_latents(paper: Path) -> None:
    """MONAI's own class, with the same file, encodes the same."""
    theirs = AutoencoderKlMaisi(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1, 1, 1),
        num_channels=(4, 8, 8),
        attention_levels=(False,) * 3,
        latent_channels=4,
        norm_num_groups=4,
        num_splits=1,
    ).eval()
    theirs.load_state_dict(torch.load(paper / "WEIGHTS" / "maisi_autoencoder.pt"))
    manifest = Manifest.read(paper / "runs" / "ccella" / "prepared")
    cache = LatentCache.open(paper / "runs" / "ccella" / "latents")
    for case in manifest:
        voxels = nib.load(manifest.image_path(case, "t2w")).get_fdata(dtype=np.float32)
        with torch.no_grad():
            mean, sigma = theirs.encode(torch.from_numpy(voxels)[None, None])
        ours = cache.read(case.id)
        torch.testing.assert_close(ours[0], mean[0], rtol=1e-2, atol=1e-4)
        torch.testing.assert_close(ours[1].exp(), sigma[0], rtol=1e-2, atol=1e-4)


def test_the_papers_encoder_reads_the_reports(paper: Path) -> None:
    """Transformers' own class, fed one report without padding, returns the same features.

    In float32; the cache is computed in bfloat16, whose numbers are 2^-8 apart from one another.
    """
    folder = paper / "WEIGHTS" / "flan-t5-xxl"
    theirs = T5EncoderModel.from_pretrained(folder).eval()
    rounded = T5EncoderModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    cache = TextCache.open(paper / "runs" / "ccella" / "text")
    dataset = Manifest.read(paper / "DATASET")
    texts = {c.id: (dataset.folder / c.report).read_text() for c in dataset if c.report}
    assert texts
    for case, text in texts.items():
        ids = tokenizer(text)["input_ids"]
        # Characters are tokens here, so every report is cut at the limit, none of it is unknown.
        assert len(ids) > 64
        assert tokenizer.unk_token_id not in ids
        with torch.no_grad():
            tokens = torch.tensor([[*ids[:63], 1]])
            wanted = theirs(input_ids=tokens).last_hidden_state[0]
            nearest = rounded(input_ids=tokens).last_hidden_state[0].float()
        features, has_report = cache.read(case)
        assert has_report
        # As far from float32 as Transformers' own bfloat16 is, and nowhere far from that.
        error, theirs_error = features.float() - wanted, nearest - wanted
        assert error.norm() < 1.1 * theirs_error.norm() < 0.02 * wanted.norm()
        torch.testing.assert_close(features.float(), nearest, rtol=0.02, atol=0.02)


def test_the_papers_sampler_makes_volumes(paper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paper)
    assert say(SAMPLE_PAPER, *PAPER_SIZES) == 0
    run = paper / "runs" / "ccella"
    assert [image.shape for image in made(run / "samples")] == [(16, 32, 16)] * 2
    counterparts = Manifest.read(run / "samples").cases
    assert {
        (counterpart.extra["sampler"], counterpart.extra["steps"]) for counterpart in counterparts
    } == {("ddpm", 100)}
    assert all(
        counterpart.extra["predicted_label"] in ("negative", "positive")
        for counterpart in counterparts
    )
    assert load_model(run / "model").vectors == {"class": 100.0, "spacing": 100.0}


def test_a_recipe_is_shown_resolved(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(SHOW) == 0
    shown = home / "shown.yaml"
    shown.write_text(capsys.readouterr().out)
    expected = load_recipe("recipes/ccella.yaml", ["demo"])
    assert load_recipe(str(shown)).fingerprint_data() == expected.fingerprint_data()


def test_recipes_are_compared(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(DIFF)
    said = capsys.readouterr().out
    assert "conditioner.name" in said
    assert "ccella" in said
    assert "first" in said
    assert "backbone" not in said


def test_recipes_are_validated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(VALIDATE) == 0
    said = capsys.readouterr().out
    assert "recipes/ccella.yaml" in said
    assert "recipes/base.yaml" in said
    assert "wrong" not in said


def test_guidance_is_trained_for_and_sampled_with(home: Path) -> None:
    assert say(RUN_GUIDED, *SMOKE) == 0
    samples = home / "runs" / "guided" / "samples"
    assert len(made(samples)) == 2
    assert [counterpart.extra["guidance"] for counterpart in Manifest.read(samples)] == [2.0, 2.0]
    assert load_recipe(str(home / "runs" / "guided" / "recipe.yaml")).dropout.both == 0.1


def test_plugins_are_listed_and_one_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert say(PLUGINS) == 0
    said = capsys.readouterr().out
    kinds = ("conditioner", "backbone", "autoencoder", "text_encoder", "classifier", "importer")
    assert all(kind in said for kind in (*kinds, "observer", "ccella", "maisi_unet", "picai"))
    assert say(PLUGINS_CHECK) == 0
    assert ", 0 failed" in capsys.readouterr().out


def test_the_table_of_recipes_is_the_recipes() -> None:
    page = (DOCS / "reference" / "recipes.md").read_text(encoding="utf-8")
    row = r"^\| \[([\w-]+)\]\(\.\./\.\./(recipes/[\w-]+\.yaml)\) \|(.*)\|$"
    rows = re.findall(row, page, re.MULTILINE)
    files = {p.name for p in (REPOSITORY / "recipes").glob("*.yaml") if p.name[0] != "_"}
    # The small model's recipe has no row: it stands below the table.
    assert "../../recipes/phantom.yaml" in page
    assert {Path(path).name for _, path, _ in rows} == files - {"phantom.yaml"}
    for name, path, cells in rows:
        recipe = load_recipe(str(REPOSITORY / path))
        assert recipe.name == name
        fid = cells.split("|")[-1].strip()
        # The two variants of ours are compared with the paper's row and have none of their own.
        assert bool(fid) == (not name.startswith("ccella-"))
        assert recipe.paper is not None
        assert fid in ("", f"{recipe.paper.fid_3d:.3f}")
