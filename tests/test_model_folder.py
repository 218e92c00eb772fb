"""A model folder by itself: saved again exactly, sampled without its run, and its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from tiny_run import REPOSITORY

import voxella
from voxella.case import Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.imaging.volume import read_volume
from voxella.ldm.build import build_model
from voxella.ldm.model_card import renew_card, write_card
from voxella.ldm.model_folder.facts import load_facts
from voxella.ldm.model_folder.folder import is_whole
from voxella.ldm.model_folder.published import without_places
from voxella.ldm.train import train
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

REPORT = "PI-RADS 4: lesion of 14 mm in the left peripheral zone."
FILES = {
    "README.md",
    "autoencoder/model.safetensors",
    "conditions.safetensors",
    "config.json",
    "model.safetensors",
    "recipe.yaml",
}


def recipe_of(workspace: Path, *overrides: str) -> Recipe:
    settings = [f"workspace={workspace}", "observers=[]", "train.steps=1", *overrides]
    return load_recipe(str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], settings)


@pytest.fixture(scope="module")
def run(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(recipe_of(smoke_workspace), folder)
    return folder


@pytest.fixture
def alone(run: Path, tmp_path: Path) -> Path:
    """The model folder, away from its run."""
    return shutil.copytree(run / "model", tmp_path / "given away")


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_folder_holds_all_that_sampling_needs(run: Path, smoke_workspace: Path) -> None:
    assert files(run / "model") == FILES
    trained = smoke_workspace / "autoencoder" / "model.safetensors"
    inside = run / "model" / "autoencoder" / "model.safetensors"
    assert inside.read_bytes() == trained.read_bytes()
    # Neither a folder of data nor a case is named.
    ids = [case.id for case in Manifest.read(smoke_workspace / "dataset")]
    for name in ("README.md", "config.json", "recipe.yaml"):
        text = (run / "model" / name).read_text()
        assert str(smoke_workspace) not in text
        assert not [id_ for id_ in ids if id_ in text]


def test_saved_again_it_is_the_same_to_the_last_byte(run: Path, tmp_path: Path) -> None:
    model = voxella.load_model(run / "model")
    assert model.save(tmp_path / "again") == tmp_path / "again"
    assert files(tmp_path / "again") == FILES
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (run / "model" / name).read_bytes(), name
    assert load_facts(tmp_path / "again") == load_facts(run / "model")
    loaded = voxella.load_model(tmp_path / "again")
    assert loaded.latent_scale == model.latent_scale
    assert model.null_text is not None
    assert loaded.null_text is not None
    assert torch.equal(loaded.null_text, model.null_text)
    # In place, too: the autoencoder is not copied onto itself.
    loaded.save(tmp_path / "again")
    assert sha256_file(tmp_path / "again" / "config.json") == sha256_file(
        run / "model" / "config.json"
    )


def test_changed_weights_are_saved_with_their_own_hash(run: Path, tmp_path: Path) -> None:
    model = voxella.load_model(run / "model")
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save(tmp_path / "changed")
    facts = load_facts(tmp_path / "changed")
    assert facts.weights_sha256 == sha256_file(tmp_path / "changed" / "model.safetensors")
    assert facts.weights_sha256 != load_facts(run / "model").weights_sha256
    again = voxella.load_model(tmp_path / "changed")
    assert torch.equal(next(again.parameters()), next(model.parameters()))


def test_a_model_that_was_built_cannot_be_saved(smoke_workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="built from a recipe") as caught:
        build_model(recipe_of(smoke_workspace)).save(tmp_path / "built")
    assert "voxella train" in str(caught.value)
    assert not (tmp_path / "built").exists()


def test_a_lost_autoencoder_is_told_when_saving(alone: Path, tmp_path: Path) -> None:
    model = voxella.load_model(alone)
    shutil.rmtree(alone / "autoencoder")
    with pytest.raises(UserError, match="autoencoder is gone"):
        model.save(tmp_path / "again")


def test_the_old_name_of_the_facts_is_read(alone: Path, run: Path) -> None:
    (alone / "config.json").rename(alone / "model.json")
    assert load_facts(alone) == load_facts(run / "model")
    assert voxella.load_model(alone).save(alone) == alone
    assert files(alone) == FILES
    # The record of a training from before names the hash by the old name.
    (alone / "config.json").rename(alone / "model.json")
    old = {"model_json_sha256": sha256_file(alone / "model.json")}
    assert is_whole(alone, old)
    assert not is_whole(alone, {"model_json_sha256": "0" * 64})


def test_a_card_that_was_changed_is_no_damage(smoke_workspace: Path, tmp_path: Path) -> None:
    train(recipe_of(smoke_workspace), tmp_path)
    facts, model = StageRecord(tmp_path / "train", "train", {}).facts, tmp_path / "model"
    before = sha256_file(model / "config.json")
    (model / "README.md").write_text("mine\n")
    assert is_whole(model, facts)
    train(recipe_of(smoke_workspace), tmp_path)
    assert (model / "README.md").read_text() == "mine\n"
    assert sha256_file(model / "config.json") == before
    # An autoencoder that is not the model's is one.
    with (model / "autoencoder" / "model.safetensors").open("ab") as file:
        file.write(b"0")
    assert not is_whole(model, facts)


def test_the_command_samples_from_the_folder_alone(
    alone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["sample", "--model", str(alone), "--report", REPORT, "--label", "positive"]
    assert main([*command, "--count", "2", "--seed", "7", "--out", str(out)]) == 0
    cases = list(Manifest.read(out / "samples"))
    assert [case.id for case in cases] == ["generated-s000", "generated-s001"]
    assert {case.label for case in cases} == {"positive"}
    # The same images as in Python.
    scale = load_recipe(alone / "recipe.yaml").sample.int16_scale
    made = voxella.Generator.open(alone).generate(report=REPORT, label="positive", seed=7, count=2)
    for case, image in zip(cases, made, strict=True):
        written = read_volume(out / "samples" / case.images["t2w"]).array
        assert scale is not None
        assert np.array_equal(written, np.rint(image.array[0] * scale))
    # The report went to the encoder and nowhere else.
    said = capsys.readouterr()
    assert REPORT not in said.out + said.err
    assert not [p for p in out.rglob("*") if p.is_file() and REPORT.encode() in p.read_bytes()]
    record = json.loads((out / "samples" / "stage.json").read_text())
    assert "--report '(left out)'" in record["command"]


def test_the_command_samples_a_file_of_prompts(alone: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "p.jsonl"
    lines = [{"id": "a", "report": REPORT}, {"id": "b", "label": "negative"}]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    asked = ["--prompts", str(prompts), "--out", str(out), "--set", "sample.steps=3"]
    assert main(["sample", "--model", str(alone), *asked]) == 0
    cases = list(Manifest.read(out / "samples"))
    assert [case.id for case in cases] == ["a-s000", "b-s000"]
    assert {case.extra["steps"] for case in cases} == {3}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sample"], "no recipe and no model"),
        (["sample", "recipes/base.yaml", "--count", "2"], "--count without --model"),
        (["sample", "recipes/base.yaml", "--model", "{m}", "--out", "o"], "takes no a recipe"),
        (["sample", "--model", "{m}", "--dataset", "d", "--out", "o"], "takes no --dataset"),
        (["sample", "--model", "{m}"], "no --out"),
        (["sample", "--model", "{m}/absent", "--out", "{m}/o"], "is not an exported model"),
        (["sample", "--model", "{m}", "--count", "0", "--out", "{m}/o"], "sample.per_case"),
        (["sample", "--model", "{m}", "--label", "maybe", "--out", "{m}/o"], "label is none of"),
    ],
)
def test_what_does_not_go_together_is_one_message(
    words: list[str], told: str, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(m=alone) for word in words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said


def test_a_folder_without_its_autoencoder_says_where_to_take_it_from(alone: Path) -> None:
    shutil.rmtree(alone / "autoencoder")
    with pytest.raises(UserError, match="exported without its autoencoder") as caught:
        voxella.Generator.open(alone)
    assert "cp RUN/autoencoder/model.safetensors" in str(caught.value)


def test_places_of_data_leave_the_recipe() -> None:
    recipe = {
        "workspace": "/w",
        "data": {"dataset": "/d", "importer": {"name": "table", "source": "/s/t.csv"}},
        "sample": {"prompts": "/p.jsonl", "steps": 3},
        "text": {"encoder": {"name": "t5", "path": "/models/t5"}},
    }
    left = yaml.safe_load(without_places(yaml.safe_dump(recipe)))
    assert left["workspace"] is None
    assert left["data"] == {"dataset": None, "importer": None}
    assert left["sample"] == {"prompts": None, "steps": 3}
    assert left["text"] == recipe["text"]
    kept = {"data": {"importer": {"name": "phantom", "cases": 6}}}
    assert yaml.safe_load(without_places(yaml.safe_dump(kept))) == kept


def measured(model: Path) -> dict[str, object]:
    """What an evaluation may have found: numbers made up, in its form."""

    def entry(value: float | None, floor: float | None = None) -> dict[str, object]:
        known = value is not None
        found = {"value": value, "n": 40, "split": "test", "note": None if known else "too few"}
        found |= {"low": value / 2, "high": value * 2} if value is not None else {"low": None}
        return found | ({} if floor is None else {"floor": {"value": floor}})

    return {
        "split": "test",
        "cases": {"synthetic": 40, "real": 50},
        "networks": [{"comparable_with_paper": False}],
        "metrics": {
            "fid3d": entry(0.25, 0.0625),
            "copies_beyond_chance_latent": entry(0.125),
            "copies_share_latent": entry(0.25, 0.05),
            "copies_beyond_chance_image": entry(None),
            "copies_share_image": entry(None),
        },
    }


def test_the_head_of_the_card_is_what_the_hub_reads(alone: Path) -> None:
    facts = json.loads((alone / "config.json").read_text())
    facts["licences"] = {"model": "CC BY-NC 4.0", "text_encoder": "Apache-2.0"}
    write_card(alone, facts, measured(alone))
    card = ModelCard.load(alone / "README.md")
    assert (card.data.license, card.data.library_name) == ("other", "voxella")
    assert card.data.get("license_name") == "CC BY-NC 4.0"
    assert card.data.get("pipeline_tag") is None  # the hub has no task for volumes
    assert card.data.get("datasets") is None
    assert {"3d", "t2w", "text-conditioned"} <= set(card.data.tags or [])
    results = {one.metric_type: one for one in card.data.eval_results or []}
    assert results["fid3d"].metric_value == 0.25
    assert results["fid3d"].dataset_split == "test"
    assert results["fid3d"].metric_args == {
        "low": 0.125, "high": 0.5, "n": 40, "split": "test", "real_vs_real": 0.0625,
    }  # fmt: skip
    assert "copies_share_image" not in results


def test_the_card_tells_facts(alone: Path) -> None:
    text = (alone / "README.md").read_text()
    facts = load_facts(alone)
    counts = facts.data["train"]
    assert counts["cases"] >= 1
    assert sum(counts["labels"].values()) == counts["cases"]
    told = f"| train | {counts['cases']} | {counts['patients']} | {counts['with_text']} |"
    assert told in text
    assert "Nothing was measured yet" in text
    assert "Verdict: not examined" in text
    assert "Not for clinical use" in text
    assert "Procedural phantoms" in text
    assert "- the frozen text encoder `minilm`: not stated" in text
    assert "frozen autoencoder" not in text  # it was trained here
    low, high = (facts.spacing_mm or {})["min"][0], (facts.spacing_mm or {})["max"][0]
    assert f"{low:g} to {high:g}" in text


def test_numbers_renew_the_card_and_nothing_else(alone: Path, run: Path) -> None:
    weights = load_facts(alone).weights_sha256

    def case(model: str) -> voxella.case.Case:
        return voxella.case.Case(id="x", group="x", images={"t2w": "x.nii"}, extra={"model": model})

    before = {name: sha256_file(alone / name) for name in FILES - {"README.md"}}
    assert renew_card(alone, measured(alone), [case("another")]) is None
    assert renew_card(alone / "absent", measured(alone), [case(weights)]) is None
    assert (alone / "README.md").read_bytes() == (run / "model" / "README.md").read_bytes()
    assert renew_card(alone, measured(alone), [case(weights)]) == alone / "README.md"
    text = (alone / "README.md").read_text()
    assert "| 0.25 | 0.125 to 0.5 | 40 | test | 0.0625 |" in text
    assert "Verdict: copies of training cases were found (latent space)." in text
    assert "- latent space: 12.5% (6.2% to 25.0%) of 40 images beyond chance" in text
    assert "of new real cases 5.0%" in text
    assert "- image space: not examined (too few)" in text
    assert {name: sha256_file(alone / name) for name in before} == before


@pytest.mark.parametrize("page", ["the card", "docs/how-to/publish.md"])
def test_the_four_lines_that_load_a_model_run(
    page: str, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = alone / "README.md" if page == "the card" else REPOSITORY / page
    code = text.read_text().split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) == 4
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"FOLDER"', repr(str(alone))), {})
    assert (tmp_path / "out" / "generated-s000_t2w.nii.gz").is_file()
