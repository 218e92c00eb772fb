"""The sample stage: a synthetic data set that can be read, continued and repeated to the byte."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import weakref
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from openpyxl import load_workbook
from PIL import Image
from shell import environment
from tiny_run import REPOSITORY
from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.autoencoder.tiling.memory import pass_bytes
from voxella.cache.text import TextCache
from voxella.cache.text_encoder import build_text_encoder
from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.data.gate import judge
from voxella.data.pseudonyms import KEY, Pseudonyms, read_synthetic
from voxella.errors import UserError
from voxella.forecast.sizes import Cases
from voxella.forecast.sizes import sampled as forecast
from voxella.hashing import sha256_file
from voxella.ldm.train import train
from voxella.plugins.contracts import TextEncoder
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe, Text
from voxella.sampling.sheet import require_sheets
from voxella.sampling.space import Scans
from voxella.sampling.stage import cases_to_sample, sample
from voxella.workspace.folders import Folders
from voxella_importers.ccella.sheet import read_sheet

RECIPES = REPOSITORY / "recipes"
SECRET = "0f" * 32
NAMES = Pseudonyms(SECRET)
# By the number of the phantom, the id of the first volume that is made for it.
S = [f"{NAMES.case(f'phantom-0000{n}')}-s000" for n in range(6)]
SETTINGS = ("observers=[]", "sample.split=train", "sample.count=3")


class Bench:
    """A trained model beside a shared workspace, to sample from in any number of folders."""

    def __init__(self, workspace: Path, folder: Path) -> None:
        self.workspace = workspace
        self.folder = folder
        train(self.recipe(), folder / "trained")

    def recipe(self, *overrides: str, name: str = "ccella") -> Recipe:
        settings = [f"workspace={self.workspace}", *SETTINGS, *overrides]
        return load_recipe(RECIPES / f"{name}.yaml", ["smoke"], settings)

    def run(self, name: str) -> Path:
        """A run folder that holds nothing but the trained model."""
        shutil.copytree(self.folder / "trained" / "model", self.folder / name / "model")
        # One key for all runs, so that their volumes have the same names.
        (self.folder / name / KEY).write_text(SECRET)
        return self.folder / name


@pytest.fixture(scope="module")
def bench(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(smoke_workspace, tmp_path_factory.mktemp("sampled"))


@pytest.fixture(scope="module")
def sampled(bench: Bench) -> Path:
    """Three volumes, from the training cases; not to be changed."""
    return sample(bench.recipe(), bench.run("first"))


def volumes(samples: Path) -> dict[str, str]:
    """Hash of every volume that the manifest names, by case."""
    manifest = Manifest.read(samples)
    return {case.id: sha256_file(manifest.image_path(case, "t2w")) for case in manifest}


def times(samples: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (samples / "volumes").glob("*.nii.gz")}


def killed(samples: Path, *unfinished: str) -> None:
    """Leave the folder as a kill does: no stage record, some volumes without their own."""
    (samples / "stage.json").unlink()
    (samples / "manifest.jsonl").unlink()
    for name in unfinished:
        (samples / "volumes" / f"{name}.json").unlink()


def made_anew(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name, moment in after.items() if before.get(name) != moment}


def test_the_manifest_is_a_data_set_that_says_where_each_volume_comes_from(
    bench: Bench, sampled: Path
) -> None:
    sources = {NAMES.case(case.id): case for case in Manifest.read(bench.workspace / "dataset")}
    facts = json.loads((bench.folder / "first" / "model" / "config.json").read_text())
    counterparts = Manifest.read(sampled)
    assert [counterpart.id for counterpart in counterparts] == [S[n] for n in (0, 1, 5)]
    for counterpart in counterparts:
        source = sources[counterpart.extra["source_case"]]
        assert counterpart.id == f"{counterpart.extra['source_case']}-s000"
        assert counterpart.group == NAMES.patient(source.group)
        assert (counterpart.label, counterpart.label_source, counterpart.split) == (
            source.label,
            "phantom",
            "train",
        )
        assert (counterpart.report, counterpart.truth) == (None, None)
        expected: dict[str, Any] = {
            "synthetic": True,
            "prompt_sha256": NAMES.report(source.report_sha256),
            "model": facts["weights_sha256"],
            "seed": 0,
            "sampler": "dpmpp_2m",
            "steps": 2,
            "guidance": 1.0,
            "int16_scale": 962.0,
            "spacing_mm": [8.0, 8.0, 6.0],
        }
        assert {key: counterpart.extra[key] for key in expected} == expected
        assert counterpart.extra["prompt_sha256"] is not None
        assert counterpart.extra["predicted_label"] in ("negative", "positive")
        assert 0.5 <= counterpart.extra["predicted_probability"] <= 1.0
        shares = counterpart.extra["predicted_probabilities"]
        assert max(shares, key=shares.get) == counterpart.extra["predicted_label"]
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert facts["weights_sha256"] == sha256_file(
        bench.folder / "first" / "model" / "model.safetensors"
    )


def test_volumes_open_elsewhere_with_their_geometry(sampled: Path) -> None:
    manifest = Manifest.read(sampled)
    for counterpart in manifest:
        image = nib.load(manifest.image_path(counterpart, "t2w"))
        assert image.shape == (16, 16, 16)
        # 128 x 128 x 96 mm over 16 voxels an axis.
        assert image.header.get_zooms() == pytest.approx((8.0, 8.0, 6.0))
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        # The volume's centre lies at the origin.
        centre = image.affine @ [7.5, 7.5, 7.5, 1.0]
        np.testing.assert_allclose(centre[:3], 0.0, atol=1e-4)
        assert image.get_data_dtype() == np.int16
        voxels = np.asarray(image.dataobj)
        assert voxels.min() >= 0
        assert voxels.max() <= 962
        assert np.unique(voxels).size > 100


def test_without_a_scale_voxels_are_floats_in_the_unit_interval(
    bench: Bench, sampled: Path
) -> None:
    out = sample(bench.recipe("sample.int16_scale=null"), bench.run("float"))
    floats, integers = Manifest.read(out), Manifest.read(sampled)
    for ours, theirs in zip(floats, integers, strict=True):
        image = nib.load(floats.image_path(ours, "t2w"))
        assert image.get_data_dtype() == np.float32
        voxels = image.get_fdata()
        assert voxels.min() >= 0.0
        assert voxels.max() <= 1.0
        scaled = nib.load(integers.image_path(theirs, "t2w")).get_fdata()
        np.testing.assert_allclose(voxels * 962, scaled, atol=0.51)
    # The picture shows the same anatomy however voxels are stored.
    pictures = [np.asarray(Image.open(folder / "montage.png")) for folder in (out, sampled)]
    np.testing.assert_allclose(pictures[0].astype(int), pictures[1].astype(int), atol=1)


def test_the_fraction_of_a_grey_is_rounded_or_as_released_cut_off(
    bench: Bench, sampled: Path
) -> None:
    floats = Manifest.read(sample(bench.recipe("sample.int16_scale=null"), bench.run("unrounded")))
    down = Manifest.read(sample(bench.recipe("sample.int16_rounding=down"), bench.run("down")))
    nearest = Manifest.read(sampled)
    for exact, cut, rounded in zip(floats, down, nearest, strict=True):
        values = nib.load(floats.image_path(exact, "t2w")).get_fdata().astype(np.float32)
        # The released call, on the values that were scaled.
        released = (values * np.float32(962.0)).astype(np.int16)
        stored = [
            nib.load(manifest.image_path(case, "t2w")).get_fdata()
            for manifest, case in ((down, cut), (nearest, rounded))
        ]
        np.testing.assert_array_equal(stored[0], released)
        np.testing.assert_array_equal(stored[1], np.rint(values * np.float32(962.0)))
        assert (stored[0] < stored[1]).mean() > 0.1


def test_the_montage_is_a_picture_with_greys(sampled: Path) -> None:
    picture = np.asarray(Image.open(sampled / "montage.png"))
    assert picture.dtype == np.uint8
    # Three rows of three planes; the finest voxel edge, 6 mm, is a pixel: 128 / 6 and 96 / 6.
    assert picture.shape == (10 * (3 * 21 + 2 * 2), 10 * (3 * 21 + 2 * 2))
    # Enlarged by repeating pixels: nothing is invented between them.
    np.testing.assert_array_equal(picture, picture[::10, ::10].repeat(10, 0).repeat(10, 1))
    shown = np.unique(picture)
    assert shown.size > 50, "the picture is saturated or empty"


def test_a_finished_stage_is_left_alone(bench: Bench, sampled: Path) -> None:
    before = times(sampled) | {"record": (sampled / "stage.json").stat().st_mtime_ns}
    assert sample(bench.recipe("sample.batch_size=3"), bench.folder / "first") == sampled
    after = times(sampled) | {"record": (sampled / "stage.json").stat().st_mtime_ns}
    assert after == before


def test_a_killed_run_makes_only_what_is_missing_and_the_same(bench: Bench, sampled: Path) -> None:
    out = sample(bench.recipe(), bench.run("killed"))
    assert volumes(out) == volumes(sampled)
    before = times(out)
    killed(out, S[1])
    assert sample(bench.recipe(), bench.folder / "killed") == out
    assert made_anew(before, times(out)) == {f"{S[1]}_t2w.nii.gz"}
    assert volumes(out) == volumes(sampled)
    assert (out / "stage.json").is_file()


def test_a_volume_that_was_deleted_is_made_again(bench: Bench, sampled: Path) -> None:
    out = sample(bench.recipe(), bench.run("deleted"))
    before = times(out)
    gone = f"{S[5]}_t2w.nii.gz"
    (out / "volumes" / gone).unlink()
    sample(bench.recipe(), bench.folder / "deleted")
    assert made_anew(before, times(out)) == {gone}
    assert volumes(out) == volumes(sampled)


def test_the_batch_size_changes_no_volume_but_for_rounding(bench: Bench, sampled: Path) -> None:
    batched, single = (
        Manifest.read(folder)
        for folder in (sample(bench.recipe("sample.batch_size=3"), bench.run("batched")), sampled)
    )
    for mine, its in zip(batched, single, strict=True):
        shares = [counterpart.extra.pop("predicted_probabilities") for counterpart in (mine, its)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)
        likely = [counterpart.extra.pop("predicted_probability") for counterpart in (mine, its)]
        assert likely[0] == pytest.approx(likely[1], abs=1e-5)
    assert batched.cases == single.cases
    for counterpart in batched:
        ours, theirs = (
            np.asarray(nib.load(m.image_path(counterpart, "t2w")).dataobj)
            for m in (batched, single)
        )
        # int16 of [0, 962]: a rounding error in the last bit may tip a voxel over by one.
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_settings_that_decide_a_volume_make_it_anew(bench: Bench, sampled: Path) -> None:
    out = bench.run("changed") / "samples"
    known = volumes(sampled)
    sample(bench.recipe(), out.parent)
    before = times(out)
    for override in ("sample.guidance=2", "sample.steps=3", "sample.sampler=ddim", "seed=1"):
        sample(bench.recipe(override), out.parent)
        assert len(made_anew(before, times(out))) == 3, override
        before = times(out)
        key, _, value = override.removeprefix("sample.").partition("=")
        assert {str(counterpart.extra[key]) for counterpart in Manifest.read(out)} <= {
            value,
            f"{value}.0",
        }
    assert all(volumes(out)[name] != digest for name, digest in known.items())
    # Back to the first settings: the record of the last ones must not stand for them.
    sample(bench.recipe(), out.parent)
    assert volumes(out) == known


def test_a_killed_change_of_settings_is_not_taken_for_the_old_ones(
    bench: Bench, sampled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sample(bench.recipe(), bench.run("mixed"))
    module: Any = sys.modules["voxella.sampling.batches"]
    genuine = module.keep_volume

    def keep_one(*arguments: Any) -> None:
        monkeypatch.setattr(module, "keep_volume", interrupt)
        genuine(*arguments)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "keep_volume", keep_one)
    with pytest.raises(KeyboardInterrupt):
        sample(bench.recipe("seed=1"), bench.folder / "mixed")
    monkeypatch.undo()
    changed = sha256_file(out / "volumes" / f"{S[0]}_t2w.nii.gz")
    assert changed not in volumes(sampled).values(), "nothing was mixed"
    sample(bench.recipe(), bench.folder / "mixed")
    assert volumes(out) == volumes(sampled)


def test_a_volume_without_its_record_is_not_taken_for_the_old_one(
    bench: Bench, sampled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a volume of other settings and its record."""
    out = sample(bench.recipe(), bench.run("halfway"))

    def kill(*arguments: Any) -> None:
        raise KeyboardInterrupt

    changed = bench.recipe("sample.guidance=3", "seed=1")
    with monkeypatch.context() as patch:
        patch.setattr("voxella.sampling.volumes.write_json_atomic", kill)
        with pytest.raises(KeyboardInterrupt):
            sample(changed, bench.folder / "halfway")
    first = f"{S[0]}_t2w.nii.gz"
    known = sha256_file(sampled / "volumes" / first)
    assert sha256_file(out / "volumes" / first) != known, "the new volume took the old one's place"
    assert not (out / "manifest.jsonl").exists(), "it would tell of the old volume"
    sample(bench.recipe(), bench.folder / "halfway")
    assert volumes(out) == volumes(sampled)
    told = {
        (counterpart.extra["guidance"], counterpart.extra["seed"])
        for counterpart in Manifest.read(out)
    }
    assert told == {(1.0, 0)}


class Watched:
    """What was generated together and decoded together, and a kill when it is asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, free: float) -> None:
        self.batches: list[list[str]] = []
        self.decoded: list[int] = []
        self.left = math.inf
        module: Any = sys.modules["voxella.sampling.batches"]
        networks: Any = sys.modules["voxella.sampling.networks"]
        generate, keep, decode = networks.generate, module.keep_volume, TiledAutoencoder.decode

        def watched_generate(model: Any, recipe: Any, requests: Any, **more: Any) -> Any:
            self.batches.append([request.sample_id for request in requests])
            return generate(model, recipe, requests, **more)

        def watched_decode(coder: TiledAutoencoder, latents: Tensor) -> Tensor:
            self.decoded.append(len(latents))
            return decode(coder, latents)

        def kept(*arguments: Any) -> None:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            keep(*arguments)

        patch.setattr(networks, "generate", watched_generate)
        patch.setattr(module, "keep_volume", kept)
        patch.setattr(TiledAutoencoder, "decode", watched_decode)
        patch.setattr("voxella.autoencoder.tiling.choice.available_bytes", lambda device: free)


def room_for(bench: Bench, run: Path, count: int) -> float:
    """Bytes that decoding so many volumes at a time takes."""
    recipe = bench.recipe()
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    coder = load_autoencoder(AutoencoderPlan.of(recipe), folders.autoencoder, torch.device("cpu"))
    shape = (count, recipe.latent.channels, *recipe.latent.size)
    return pass_bytes(coder.model.decode, shape, torch.device("cpu"))


def test_a_kill_amid_a_batch_changes_no_byte(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Floats show what rounding to int16 may hide. There is memory to decode two of three.
    recipe = bench.recipe("sample.batch_size=3", "sample.int16_scale=null")
    room = room_for(bench, bench.run("whole"), 2)
    all_three = [f"phantom-0000{n}-s000" for n in (0, 1, 5)]
    with monkeypatch.context() as patch:
        watched = Watched(patch, room)
        whole = sample(recipe, bench.folder / "whole")
        assert (watched.batches, watched.decoded) == ([all_three], [2, 1])
    run = bench.run("amid")
    with monkeypatch.context() as patch:
        Watched(patch, room).left = 1
        with pytest.raises(KeyboardInterrupt):
            sample(recipe, run)
    before = times(run / "samples")
    assert set(before) == {f"{S[0]}_t2w.nii.gz"}
    with monkeypatch.context() as patch:
        # There is more memory now, and the volumes are still decoded as they began.
        watched = Watched(patch, math.inf)
        out = sample(recipe, run)
        assert (watched.batches, watched.decoded) == ([all_three], [2, 1])
    made = {f"{S[n]}_t2w.nii.gz" for n in (1, 5)}
    assert made_anew(before, times(out)) == made
    assert volumes(out) == volumes(whole)
    assert sha256_file(out / "manifest.jsonl") == sha256_file(whole / "manifest.jsonl")
    with monkeypatch.context() as patch:
        # The last of the batch alone is decoded alone, and made with the others.
        (out / "volumes" / f"{S[5]}_t2w.nii.gz").unlink()
        watched = Watched(patch, math.inf)
        sample(recipe, run)
        assert (watched.batches, watched.decoded) == ([all_three], [1])
    assert volumes(out) == volumes(whole)


def test_a_changed_case_is_sampled_anew(bench: Bench, tmp_path: Path) -> None:
    """Another label is another volume, though model and settings are the same."""
    workspace = tmp_path / "workspace"
    shutil.copytree(bench.workspace, workspace, ignore=shutil.ignore_patterns("run"))
    recipe = bench.recipe().model_copy(update={"workspace": workspace})
    out = sample(recipe, bench.run("relabelled"))
    before = times(out)
    prepared = Manifest.read(workspace / "prepared")
    cases = [_flipped(c) if c.id == "phantom-00001" else c for c in prepared]
    Manifest(prepared.folder, cases).write()
    sample(recipe, bench.folder / "relabelled")
    assert made_anew(before, times(out)) == {f"{S[1]}_t2w.nii.gz"}
    labels = {counterpart.id: counterpart.label for counterpart in Manifest.read(out)}
    assert labels[S[1]] == "positive"


def _flipped(case: Case) -> Case:
    return case.model_copy(update={"label": "positive"})


def test_counterparts_of_a_case_differ(bench: Bench, sampled: Path) -> None:
    out = sample(bench.recipe("sample.per_case=2", "sample.count=2"), bench.run("twins"))
    found = volumes(out)
    assert set(found) == {S[n][:-1] + str(counterpart) for n in (0, 1) for counterpart in (0, 1)}
    assert len(set(found.values())) == 4
    # The first counterpart is the one that would be made alone.
    assert found[S[0]] == volumes(sampled)[S[0]]


def test_other_splits(bench: Bench, tmp_path: Path) -> None:
    out = sample(bench.recipe("sample.split=val"), bench.run("val"))
    counterparts = Manifest.read(out)
    assert [counterpart.id for counterpart in counterparts] == [S[3], S[4]]
    assert {counterpart.split for counterpart in counterparts} == {"val"}
    # phantom-00003 has no report: it sees the empty one.
    assert counterparts.cases[0].extra.get("prompt_sha256") is None

    workspace = tmp_path / "workspace"
    shutil.copytree(bench.workspace, workspace, ignore=shutil.ignore_patterns("run"))
    prepared = Manifest.read(workspace / "prepared")
    Manifest(prepared.folder, prepared.split("train")).write()
    recipe = bench.recipe("sample.split=val").model_copy(update={"workspace": workspace})
    with pytest.raises(UserError, match="the split val has no case") as caught:
        sample(recipe, bench.run("empty"))
    assert "--set sample.split=train" in str(caught.value)


def test_several_splits(bench: Bench, sampled: Path, tmp_path: Path) -> None:
    several = ("sample.split=[val, train]", "sample.count=2")
    counterparts = Manifest.read(sample(bench.recipe(*several), bench.run("several")))
    # So many of each, in the order in which the recipe names the splits.
    assert [(counterpart.id, counterpart.split) for counterpart in counterparts] == [
        *((S[n], "val") for n in (3, 4)),
        *((S[n], "train") for n in (0, 1)),
    ]
    known = volumes(sampled)
    assert {
        k: v for k, v in volumes(counterparts.folder).items() if k in known
    }.items() <= known.items()
    picture = Image.open(counterparts.folder / "montage.png")
    assert picture.size[1] / 10 == 4 * 21 + 3 * 2, "a row for each of the four"
    # Prompts stand for no case, so they are of the first split.
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"id": "a", "label": "positive"}))
    (prompted,) = Manifest.read(
        sample(bench.recipe(f"sample.prompts={path}", *several), bench.run("several-prompts"))
    )
    assert (prompted.split, prompted.label_source) == ("val", "given")


def test_some_split_needs_a_case(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Manifest.read(bench.workspace / "prepared")
    prepared = Manifest(whole.folder, whole.split("train"))
    with pytest.raises(UserError) as caught:
        cases_to_sample(bench.recipe("sample.split=[test, val]").sample, prepared)
    assert caught.value.problem == "the split test has no case\nthe split val has no case"
    assert caught.value.remedy == "--set sample.split=train"
    several = bench.recipe("sample.split=[test, train]").sample
    found = cases_to_sample(several, prepared, quiet=False)
    assert {case.split for case in found} == {"train"}
    assert "warning: the split test has no case" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "splits"), [("test", ("test",)), ("[test, train]", ("test", "train"))]
)
def test_a_recipe_names_one_split_or_several(given: str, splits: tuple[str, ...]) -> None:
    recipe = load_recipe(RECIPES / "ccella.yaml", [], [f"sample.split={given}"])
    assert recipe.sample.splits == splits
    # 5,071 cases to train on and 740 held out.
    volumes = {"train": 5071, "test": 740}
    assert forecast(recipe.sample, Cases(5071, 5811, "")) == sum(volumes[name] for name in splits)


@pytest.mark.parametrize("wrong", ["[]", "[test, test]", "[test, dev]", "dev"])
def test_other_splits_are_refused(wrong: str) -> None:
    with pytest.raises(UserError, match=r"sample\.split"):
        load_recipe(RECIPES / "ccella.yaml", [], [f"sample.split={wrong}"])


def test_no_real_name_lies_in_what_leaves(bench: Bench, tmp_path: Path) -> None:
    """Ids, patients and report hashes of the data set, in every file's name and bytes."""
    run = bench.run("leaves")
    (run / KEY).unlink()
    out = sample(bench.recipe("sample.xlsx=true"), run)
    assert (run / KEY).stat().st_mode & 0o777 == 0o600
    real = Manifest.read(bench.workspace / "dataset")
    hashes = {case.report_sha256 for case in real if case.report_sha256}
    names = {n for case in real for n in (case.id, case.group)} | hashes
    for path in out.rglob("*"):
        assert not any(name in path.name for name in names), path
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".xlsx":
                content = b"".join(
                    zipfile.ZipFile(path).read(n) for n in ("xl/worksheets/sheet1.xml",)
                )
            found = [name for name in names if name.encode() in content]
            assert not found, (path, found)
    # With the key the run knows them again; under another key they are other names.
    known = read_synthetic(out, real)
    assert [case.id for case in known] == [f"phantom-0000{n}-s000" for n in (0, 1, 5)]
    sources = {case.id: case for case in real}
    for case in known:
        source = sources[case.extra["source_case"]]
        assert case.group == f"synthetic-{source.group}"
        assert case.extra["prompt_sha256"] == source.report_sha256
    away = tmp_path / "away"
    shutil.copytree(out, away)
    assert Manifest.read(away).cases == read_synthetic(away, real).cases
    assert {case.id for case in Manifest.read(away)}.isdisjoint(S)


def test_volumes_of_a_version_without_pseudonyms_go(bench: Bench) -> None:
    out = sample(bench.recipe(), bench.run("older"))
    old = out / "volumes" / "phantom-00000-s000_t2w.nii.gz"
    shutil.copy(out / "volumes" / f"{S[0]}_t2w.nii.gz", old)
    (out / "volumes" / f"{S[0]}_t2w.nii.gz").unlink()
    sample(bench.recipe(), bench.folder / "older")
    assert not old.exists()


def test_a_damaged_key_is_a_message(bench: Bench) -> None:
    run = bench.run("damaged-key")
    (run / KEY).write_text("0f0f")
    with pytest.raises(UserError, match="holds no key"):
        sample(bench.recipe(), run)


def test_sampling_needs_a_trained_model(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not an exported model") as caught:
        sample(bench.recipe(), tmp_path)
    assert "voxella train" in str(caught.value)


def test_another_autoencoder_or_encoder_than_trained_with_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    run = bench.run("mismatched")
    path = run / "model" / "config.json"
    facts = json.loads(path.read_text())
    facts["autoencoder_fingerprint"] = "0" * 64
    facts["text"]["encoder"] = "1" * 64
    path.write_text(json.dumps(facts))
    with pytest.raises(UserError, match="autoencoder is not the one") as caught:
        sample(bench.recipe(), run)
    assert "text features are not of the encoder" in str(caught.value)
    assert not list((run / "samples").rglob("*.nii.gz"))


def test_a_scale_beyond_int16_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match="do not fit into int16"):
        sample(bench.recipe("sample.int16_scale=60000"), bench.run("overflow"))


@pytest.mark.slow
def test_two_processes_make_the_volumes_of_one(bench: Bench) -> None:
    run = bench.run("two")
    script = (
        "from pathlib import Path; import sys; from voxella.recipe.load import load_recipe;"
        "from voxella.sampling.stage import sample;"
        "sample(load_recipe(sys.argv[1], ['smoke'], sys.argv[3:]), Path(sys.argv[2]))"
    )
    driver = bench.folder / "driver.py"
    driver.write_text(script)
    # Batches are shared, not volumes: two here, of two volumes and of one.
    batched = ("sample.batch_size=2", "sample.int16_scale=null")
    overrides = [f"workspace={bench.workspace}", *SETTINGS, *batched]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(driver), str(RECIPES / "ccella.yaml"), str(run), *overrides),
    ]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    alone = sample(bench.recipe(*batched), bench.run("alone"))
    assert volumes(run / "samples") == volumes(alone)
    assert sha256_file(run / "samples" / "manifest.jsonl") == sha256_file(alone / "manifest.jsonl")


def test_a_sweep_is_one_data_set_for_each_combination(bench: Bench, sampled: Path) -> None:
    sweep = "sample.sweep={steps: [2, 3], guidance: [1, 2.5]}"
    out = sample(bench.recipe(sweep, "sample.count=1"), bench.run("sweep"))
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"steps-{s}_guidance-{g}" for s in (2, 3) for g in ("1", "2.5")]
    for name in names:
        (counterpart,) = Manifest.read(out / name)
        assert (
            name == f"steps-{counterpart.extra['steps']}_guidance-{counterpart.extra['guidance']:g}"
        )
    # The combination that is the plain call's gives the plain call's volume.
    same = volumes(out / "steps-2_guidance-1")
    assert same == {k: v for k, v in volumes(sampled).items() if k in same}


def test_on_the_grid_of_the_scan(bench: Bench, sampled: Path) -> None:
    settings = ("sample.space=source", "sample.int16_scale=null", "sample.count=1")
    out = sample(bench.recipe(*settings), bench.run("source"))
    (counterpart,) = Manifest.read(out)
    image = nib.load(out / counterpart.images["t2w"])
    dataset = Manifest.read(bench.workspace / "dataset")
    source = next(
        case for case in dataset if NAMES.case(case.id) == counterpart.extra["source_case"]
    )
    scan = nib.load(dataset.image_path(source, "t2w"))
    # The phantom's files are in RAS order already.
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert image.shape == scan.shape == (40, 40, 16)
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
    # A voxel's place in the scan, in the prepared volume of the same counterpart, by hand: both
    # grids have the same middle, 4 x 4 x 6 mm there and 8 x 8 x 6 mm here.
    coarse = nib.load(sampled / "volumes" / f"{counterpart.id}_t2w.nii.gz").get_fdata() / 962
    fine = image.get_fdata()
    blocks = fine[4:36, 4:36].reshape(16, 2, 16, 2, 16).mean(axis=(1, 3))
    inner = (slice(2, -2),) * 3
    assert np.corrcoef(blocks[inner].ravel(), coarse[inner].ravel())[0, 1] > 0.9
    assert fine[:3].max() == 0.0  # outside the crop of 128 mm


def test_manifests_are_not_read_again_for_every_volume(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On scans' grids: as many readings for four volumes as for one."""
    genuine = Manifest.read
    read: list[Path] = []

    def counting(folder: Path) -> Manifest:
        read.append(Path(folder))
        return genuine(folder)

    monkeypatch.setattr(Manifest, "read", counting)
    counts = {}
    for volumes_each in (1, 4):
        settings = ("sample.space=source", "sample.count=1", f"sample.per_case={volumes_each}")
        out = sample(bench.recipe(*settings), bench.run(f"source-{volumes_each}"))
        assert len(genuine(out)) == volumes_each
        counts[volumes_each] = len(read)
        read.clear()
    assert counts[4] == counts[1]


def test_a_scan_that_is_gone_is_told(bench: Bench) -> None:
    recipe = bench.recipe()
    scans = Scans(Folders.of(bench.run("gone"), recipe.workspace, recipe.data.dataset))
    case = Manifest.read(bench.workspace / "prepared").cases[0]
    with pytest.raises(UserError, match=r"case stranger is no longer in .*t2w"):
        scans.read(case.model_copy(update={"id": "stranger"}), "t2w")


def test_a_file_of_prompts(bench: Bench, tmp_path: Path) -> None:
    dataset = Manifest.read(bench.workspace / "dataset")
    source = next(case for case in dataset if case.id == "phantom-00000")
    prompts = [
        # The very report of a case, and no text at all.
        {"id": "twin", "report": dataset.read_report(source), "label": source.label},
        {"id": "nothing", "label": "negative", "spacing_mm": [2.0, 2.0, 3.0]},
    ]
    path = tmp_path / "prompts.jsonl"
    # As Windows saves it, with a byte-order mark.
    path.write_text("\n".join(json.dumps(prompt) for prompt in prompts), encoding="utf-8-sig")
    out = sample(bench.recipe(f"sample.prompts={path}"), bench.run("prompted"))
    counterpart, nothing = Manifest.read(out)
    assert (counterpart.id, nothing.id) == ("twin-s000", "nothing-s000")
    assert counterpart.extra["prompt_sha256"] == NAMES.report(source.report_sha256)
    assert nothing.extra["prompt_sha256"] is None
    assert counterpart.extra["spacing_mm"] == [8.0, 8.0, 6.0]  # what the model was trained on
    assert nothing.extra["spacing_mm"] == [2.0, 2.0, 3.0]
    # Same text and label, so the head says the same as of the case itself: one cache for both.
    (own,) = Manifest.read(sample(bench.recipe("sample.count=1"), bench.run("own")))
    assert counterpart.extra["predicted_probability"] == own.extra["predicted_probability"]


def test_an_encoder_is_loaded_for_new_prompts_alone_and_gone_before_memory_is_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Manifest.read(bench.workspace / "dataset")
    source = next(case for case in dataset if case.id == "phantom-00000")
    known = {"id": "known", "report": dataset.read_report(source), "label": source.label}
    new = {"id": "new", "report": "A report that nobody has written yet.", "label": "negative"}
    happened: list[str] = []
    encoders: list[weakref.ref[object]] = []

    def building(text: Text, **options: Any) -> TextEncoder:
        happened.append("encoder loaded")
        encoder = build_text_encoder(text, **options)
        encoders.append(weakref.ref(encoder))
        return encoder

    def measuring(*arguments: Any, **options: Any) -> TiledAutoencoder:
        alive = [encoder for encoder in encoders if encoder() is not None]
        happened.append(f"memory measured beside {len(alive)} encoders")
        return tiled(*arguments, **options)

    monkeypatch.setattr("voxella.cache.encode_text.build_text_encoder", building)
    monkeypatch.setattr("voxella.sampling.networks.tiled", measuring)
    path = tmp_path / "prompts.jsonl"
    for run, prompts, expected in (
        ("known", [known], ["memory measured beside 0 encoders"]),
        ("new", [known, new], ["encoder loaded", "memory measured beside 0 encoders"]),
    ):
        path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
        recipe, folder = bench.recipe(f"sample.prompts={path}"), bench.run(f"prompts-{run}")
        happened.clear()
        sample(recipe, folder)
        assert happened == expected
    # What was encoded is there for the next volumes, as what reports are: in the cache's dtype.
    happened.clear()
    sample(bench.recipe(f"sample.prompts={path}", "sample.steps=3"), folder)
    assert happened == ["memory measured beside 0 encoders"]
    cache = TextCache.open(folder / "prompts")
    features, has_report = cache.read("new")
    assert has_report
    assert recipe.text is not None
    alone = build_text_encoder(recipe.text).encode([new["report"]])[0]
    torch.testing.assert_close(features, alone.to(features.dtype), rtol=1e-2, atol=1e-3)


def test_bad_prompts_are_named_by_line_and_never_quoted(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    secret = "Mrs Smith has a lesion"
    lines = ["{", json.dumps({"id": "a b", "report": secret}), json.dumps({"report": [secret]})]
    lines.append(json.dumps({"id": "c", "report": f"<p>{secret}</p>"}))
    lines.append(f'{{"id": "e", "report": "{secret}", "report": "none"}}')
    lines.append(json.dumps({"id": "f", "report": f"{secret}\0"}))
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError) as caught:
        sample(bench.recipe(f"sample.prompts={path}"), bench.run("bad"))
    said = str(caught.value)
    assert ":1: not JSON" in said
    assert ":2: id is not letters, digits and _ . - in quotes" in said
    assert ":3: id is missing; report is not a text in quotes" in said
    assert ":4: its report is HTML and no plain text" in said
    assert ":5: not JSON: a key is duplicated in one object" in said
    assert ":6: its report holds characters that are no text" in said
    assert "Smith" not in said
    path.write_text(json.dumps({"id": "d", "report": "Lésion"}, ensure_ascii=False), "latin-1")
    with pytest.raises(UserError, match=r"is not UTF-8 \(byte \d+ of \d+\).*; save it as UTF-8"):
        sample(bench.recipe(f"sample.prompts={path}"), bench.run("bad-bytes"))
    with pytest.raises(UserError, match="no scan whose grid"):
        sample(bench.recipe(f"sample.prompts={path}", "sample.space=source"), bench.folder / "bad")


IMPOSSIBLE = {
    "zero": ([0, 0, 0], "an edge has to be a number above 0"),
    "nan": ([math.nan, 8, 6], "an edge has to be a number above 0"),
    "endless": ([8, 8, math.inf], "an edge has to be a number above 0"),
    "negative": ([-8, 8, 6], "an edge has to be a number above 0"),
    "two": ([8, 8], "spacing_mm has 2 entries, and there are 3 axes"),
    "none": ([], "spacing_mm has 0 entries"),
    "fine": ([0.5, 0.5, 3], "far from what the model was trained on (8 x 8 x 6 mm)"),
    "coarse": ([8, 8, 60], "far from what the model was trained on (8 x 8 x 6 mm)"),
    "huge": ([1e9, 8, 6], "far from what the model was trained on (8 x 8 x 6 mm)"),
    "words": (["NaN", 8, 6], "spacing_mm is not a list of numbers, unquoted, or null"),
    "yes": ([True, 8, 6], "spacing_mm is not a list of numbers"),
    "one": (8, "spacing_mm is not a list of numbers"),
}


def test_impossible_prompts_are_all_named_with_their_lines(bench: Bench, tmp_path: Path) -> None:
    prompts: list[dict[str, Any]] = [
        {"id": name, "report": "Mrs Smith", "label": "positive", "spacing_mm": spacing}
        for name, (spacing, _) in IMPOSSIBLE.items()
    ]
    prompts += [
        {"id": "good", "label": "positive", "spacing_mm": [8, 8, 6]},
        {"id": "other", "label": "Mrs Smith has a lesion"},
        {"id": "GOOD"},
        {"id": "key", "Mrs Smith has a lesion": 1},
    ]
    path = tmp_path / "prompts.jsonl"
    lines = [json.dumps(prompt) for prompt in prompts]
    deep, digits = "[" * 100_000, '{"id": "a", "spacing_mm": [' + "9" * 5000 + "]}"
    half = '{"id": "half", "report": "\\ud800"}'
    path.write_text("\n".join([*lines, deep, digits, half]), encoding="utf-8-sig")
    with pytest.raises(UserError) as caught:
        sample(bench.recipe(f"sample.prompts={path}"), bench.run("impossible"))
    said = caught.value.problem.splitlines()
    told = {int(line.removeprefix(f"{path}:").split(":")[0]): line for line in said}
    assert sorted(told) == [*range(1, 13), 14, 15, 16, 17, 18, 19]
    for number, (_, words) in enumerate(IMPOSSIBLE.values(), start=1):
        assert words in told[number]
    assert "label is none of negative, positive" in told[14]
    assert "id GOOD stands in line 13 already" in told[15]
    assert told[16].endswith("a field that no prompt has")
    assert "not JSON: nested more than" in told[17]
    assert "not JSON: a whole number of thousands of digits" in told[18]
    assert "half of a character" in told[19]
    assert "Smith" not in str(caught.value)
    assert not (bench.folder / "impossible" / "samples").exists()


def test_prompts_are_judged_before_anything_is_imported(tmp_path: Path) -> None:
    """What needs no model to be known is said at once, not after days of training."""
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "a", "spacing_mm": [0, 8, 6]}\n{"id": "b", "label": "perhaps"}\n')
    recipe = str(RECIPES / "ccella.yaml")
    given = ["--profile", "smoke", "--out", str(tmp_path / "run")]
    assert main(["sample", recipe, *given, "--set", f"sample.prompts={path}"]) == 2
    assert not (tmp_path / "run").exists()
    path.write_text('{"id": "a"}\n')
    more = ["--set", f"sample.prompts={path}", "--set", "sample.space=source"]
    assert main(["run", recipe, *given, *more]) == 2
    assert not (tmp_path / "run").exists()


def test_the_released_spreadsheet_beside_the_volumes(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bench.folder / "sheet"
    shutil.copytree(bench.folder / "trained", run)
    command = ["sample", str(RECIPES / "ccella.yaml"), "--profile", "smoke", "--out", str(run)]
    for setting in (f"workspace={bench.workspace}", *SETTINGS):
        command += ["--set", setting]
    assert main([*command, "--xlsx"]) == 0
    out, sheet = run / "samples", run / "samples" / "cases.xlsx"
    counterparts = {counterpart.id: counterpart for counterpart in Manifest.read(out)}
    rows = read_sheet(sheet)
    assert rows.keys() == counterparts.keys()
    assert {name: row.pirads for name, row in rows.items()} == {
        name: counterpart.label == "positive" for name, counterpart in counterparts.items()
    }
    assert {row.label_source for row in rows.values()} == {"phantom"}
    header, *cells = load_workbook(sheet)["cases"].iter_rows(values_only=True)
    assert header[-2:] == ("predicted_label", "predicted_probability")
    predicted = {row[0]: row[-2:] for row in cells}
    assert predicted == {
        name: (counterpart.extra["predicted_label"], counterpart.extra["predicted_probability"])
        for name, counterpart in counterparts.items()
    }
    # Judged and found to hold copies: no sheet, whatever was there; judged again and passed: one.
    judge(Manifest.read(out), 0.1, {"latent": (0.5, 0.8)})
    capsys.readouterr()
    assert main([*command, "--xlsx"]) == 2
    assert "may not be handed on: 50.00% of its volumes" in capsys.readouterr().err
    assert not sheet.exists()
    # Inside a run the evaluation comes next, which judges anew: no mistake, but no sheet either.
    sample(bench.recipe("sample.xlsx=true"), run)
    assert "warning: no cases.xlsx" in capsys.readouterr().out
    assert not sheet.exists()
    judge(Manifest.read(out), 0.9, {"latent": (0.5, 0.8)})
    assert main([*command, "--xlsx"]) == 0
    assert read_sheet(sheet) == rows
    # Other volumes than were judged.
    sample(bench.recipe("sample.xlsx=true", "seed=1"), run)
    with pytest.raises(UserError, match="has changed since its copies"):
        require_sheets([out])
    assert not sheet.exists()


def test_the_spreadsheet_keeps_where_labels_come_from(
    bench: Bench, tmp_path: Path, sampled: Path
) -> None:
    """A label by ISUP grade stands under PosISUP, as that of its case does."""
    workspace = tmp_path / "workspace"
    shutil.copytree(bench.workspace, workspace, ignore=shutil.ignore_patterns("run"))
    prepared = Manifest.read(workspace / "prepared")
    sources = ["isup", "pirads", "isup"]
    cases = [
        case.model_copy(update={"label_source": source})
        for case, source in zip(prepared.split("train"), sources, strict=True)
    ]
    Manifest(prepared.folder, cases).write()
    run = bench.run("isup")
    recipe = bench.recipe("sample.xlsx=true").model_copy(update={"workspace": workspace})
    rows = read_sheet(sample(recipe, run) / "cases.xlsx")
    for row, case in zip(rows.values(), cases, strict=True):
        positive = case.label == "positive"
        marks = (None, positive) if case.label_source == "isup" else (positive, None)
        assert (row.pirads, row.isup, row.label_source) == (*marks, case.label_source)
    # Without it, the same volumes and no sheet.
    before = times(run / "samples")
    out = sample(recipe.model_copy(update={"sample": bench.recipe().sample}), run)
    assert (times(out), (out / "cases.xlsx").exists()) == (before, False)
