"""Copies of training cases are found, shown and held back; other patients pass."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_bench import CCELLA, Hospital, anatomy, synthetic
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import gumbel_l
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import (
    SESSION_START_INFO_TAG,
    parse_session_start_info_plugin_data,
)

from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.evaluation.stage import evaluate
from voxella.ldm.train import train
from voxella.metrics.near_duplicates import beyond_chance, chance_bound
from voxella.metrics.vectors import VectorSet
from voxella.recipe.load import load_recipe
from voxella.sampling.stage import sample

COPIED = "case-03"
INT16 = 962


@pytest.fixture(autouse=True)
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"))


def read(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return loaded


def generated(hospital: Hospital, folder: Path, *, copied: str | None = None) -> Path:
    """Ten volumes in int16; one of them may be a training case's, a little blurred by rounding."""

    def make(case: Case) -> NDArray[np.int64]:
        own = hospital.volume(case) if case.id == copied else anatomy(700 + int(case.id[-2:]))
        return np.rint(own * INT16).astype(np.int64)

    return synthetic(
        hospital,
        folder / "samples",
        hospital.cases("train")[:10],
        make=make,
        extra=lambda case: {"int16_scale": float(INT16)},
    )


def test_a_planted_copy_is_caught_shown_and_held_back(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = generated(hospital, tmp_path, copied=COPIED)
    with pytest.raises(UserError, match=r"10\.00% of its volumes"):
        evaluate(hospital.recipe("evaluate.gate=0.01"), tmp_path)
    found = read(tmp_path)["metrics"]
    for name in ("copies_share_image", "copies_beyond_chance_image"):
        assert (found[name]["value"], found[name]["split"]) == (0.1, "test")
        assert found[name]["low"] == pytest.approx(0.0025, abs=1e-4)  # Clopper-Pearson, 1 of 10
        assert found[name]["high"] == pytest.approx(0.4450, abs=1e-4)
    assert found["copies_share_latent"]["value"] is None
    assert "latents" in found["copies_share_latent"]["note"]

    image = json.loads((tmp_path / "evaluation" / "memorisation.json").read_text())
    (worst, second, *_) = image["spaces"]["image"]["worst"]
    assert (worst["synthetic"], worst["training"]) == (f"{COPIED}-s000", COPIED)
    assert worst["suspected"] is True
    # The distance by hand: rounding to int16 is all that tells the two apart.
    source = hospital.volume(hospital.cases("train")[3])
    rounded = (np.rint(source * INT16) / INT16).astype(np.float32)
    apart = np.linalg.norm(rounded.astype(float) - source.astype(float))
    assert worst["distance"] == pytest.approx(apart, rel=1e-4)
    assert second["ratio"] > 0.5 > 50 * worst["ratio"]
    assert image["spaces"]["image"]["beyond_chance"]["ids"] == [f"{COPIED}-s000"]

    verdict = json.loads((samples / "gate.json").read_text())
    assert {k: verdict[k] for k in ("limit", "share", "passed", "space")} == {
        **{"limit": 0.01, "share": 0.1, "passed": False, "space": "image"}
    }
    export = ["export", "ccella", str(samples), "--out", str(tmp_path / "export")]
    assert main(export) == 2
    assert "may not be handed on: 10.00%" in capsys.readouterr().err
    assert not (tmp_path / "export").exists()
    # A gate as wide as that opens; so does the export.
    evaluate(hospital.recipe("evaluate.gate=0.1"), tmp_path)
    assert main(export) == 0
    # What has changed since was not judged.
    (samples / "volumes" / f"{COPIED}-s000.nii.gz").write_bytes(
        (samples / "volumes" / "case-04-s000.nii.gz").read_bytes()
    )
    assert main([*export[:-1], str(tmp_path / "again")]) == 2
    assert "has changed since" in capsys.readouterr().err


def test_too_many_near_cases_are_held_back_though_chance_explains_each(
    hospital: Hospital, tmp_path: Path
) -> None:
    """A quarter a training case, the rest nobody: nearer than real cases come, but no copy."""

    def make(case: Case) -> NDArray[np.float32]:
        stranger = anatomy(5000 + int(case.id[-2:]))
        return np.asarray(0.28 * hospital.volume(case) + 0.72 * stranger, dtype=np.float32)

    synthetic(hospital, tmp_path / "samples", hospital.cases("train")[:10], make=make)
    with pytest.raises(UserError, match="one by one or all together"):
        evaluate(hospital.recipe("evaluate.gate=0.15"), tmp_path)
    found = read(tmp_path)["metrics"]
    assert found["copies_beyond_chance_image"]["value"] <= 0.1  # would pass
    suspected = found["copies_share_image"]
    assert suspected["value"] >= 0.7
    # One of eight unseen cases and the new one: the threshold is the smallest of them.
    assert suspected["floor"]["value"] == pytest.approx(1 / 9)
    verdict = json.loads((tmp_path / "samples" / "gate.json").read_text())
    assert verdict["share"] == pytest.approx(suspected["low"] - 1 / 9)


def test_an_evaluation_that_breaks_off_lets_nothing_pass(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = generated(hospital, tmp_path)
    wrong = hospital.recipe("evaluate.gate=0.01", "evaluate.real_split=val")
    with pytest.raises(UserError, match="made from other splits than val"):
        evaluate(wrong, tmp_path)
    assert main(["export", "ccella", str(samples), "--out", str(tmp_path / "export")]) == 2
    assert "its evaluation has not come to an end" in capsys.readouterr().err
    evaluate(hospital.recipe("evaluate.gate=0.01"), tmp_path)
    assert main(["export", "ccella", str(samples), "--out", str(tmp_path / "export")]) == 0


def test_of_several_splits_the_first_is_compared_and_all_are_searched_for_copies(
    hospital: Hospital, tmp_path: Path
) -> None:
    def make(case: Case) -> NDArray[Any]:
        return hospital.volume(case) if case.id == COPIED else anatomy(5000 + int(case.id[-2:]))

    both = [*hospital.cases("train")[:6], *hospital.cases("test")]
    synthetic(hospital, tmp_path / "samples", both, make=make)
    evaluate(hospital.recipe("sample.split=[test, train]"), tmp_path)
    found = read(tmp_path)
    assert (found["split"], found["paired"]) == ("test", True)
    assert found["cases"] == {
        **{"synthetic": 8, "generated": 14, "real": 8, "training": 14, "unseen": 8}
    }
    assert found["metrics"]["kid_3d"]["n"] == 8
    copied = found["metrics"]["copies_beyond_chance_image"]
    assert (copied["value"], copied["n"]) == (pytest.approx(1 / 14), 14)
    # Cases of the test split have no source among training cases to fall back on.
    facts = json.loads((tmp_path / "evaluation" / "memorisation.json").read_text())
    assert facts["spaces"]["image"]["own_source"]["n"] == 6
    # Alone, the same volumes of the test cases give the same distance.
    alone = tmp_path / "alone"
    synthetic(hospital, alone / "samples", hospital.cases("test"))
    evaluate(hospital.recipe("sample.split=test"), alone)
    assert read(alone)["metrics"]["kid_3d"] == found["metrics"]["kid_3d"]
    evaluate(hospital.recipe("sample.split=[test, train]", "evaluate.real_split=train"), tmp_path)
    assert read(tmp_path)["cases"]["synthetic"] == 6


def test_the_picture_shows_the_copy_beside_its_patient(hospital: Hospital, tmp_path: Path) -> None:
    generated(hospital, tmp_path, copied=COPIED)
    evaluate(hospital.recipe(), tmp_path)
    picture = np.asarray(Image.open(tmp_path / "evaluation" / "copies-image.png"))
    half = (picture.shape[1] + 1) // 2
    row = picture.shape[0] // 5
    # Below the captions, to the pixel but for the rounding of int16 to greys.
    below = slice(row // 3, row - 12)
    left, right = picture[below, : half - 12], picture[below, half:]
    width = min(left.shape[1], right.shape[1])
    shifts = [
        np.abs(left[:, : width - 12].astype(int) - right[:, s : s + width - 12].astype(int)).mean()
        for s in range(12)
    ]
    assert min(shifts) < 1.0


def test_other_patients_pass_the_gate(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = generated(hospital, tmp_path)
    recipe = hospital.recipe("evaluate.gate=0.01")
    evaluate(recipe, tmp_path)
    assert read(tmp_path)["metrics"]["copies_beyond_chance_image"]["value"] == 0.0
    assert json.loads((samples / "gate.json").read_text())["passed"] is True
    assert "lets" in capsys.readouterr().out
    assert main(["export", "ccella", str(samples), "--out", str(tmp_path / "export")]) == 0


def test_a_bound_from_few_cases_is_further_away() -> None:
    ratios = np.exp(np.array([-0.30, -0.20, -0.25, -0.35, -0.22]))
    logs = np.log(ratios)
    # A thousandth of a Gumbel distribution of minima with this mean and deviation, by scipy; and
    # Student's t with 4 degrees of freedom over the normal quantile, from tables.
    scale = logs.std(ddof=1) * np.sqrt(6) / np.pi
    tail = gumbel_l(loc=logs.mean() + np.euler_gamma * scale, scale=scale).ppf(0.001)
    longer = 7.1732 / 3.0902 * np.sqrt(1 + 1 / 5)
    bound = logs.mean() + (tail - logs.mean()) * longer
    assert chance_bound(ratios) == pytest.approx(np.exp(bound), rel=1e-4)
    # Never above the nearest seen, never below what is a copy anyway.
    assert chance_bound(np.array([0.1, *[0.9] * 2000])) == pytest.approx(0.1)
    assert chance_bound(np.array([0.9])) == chance_bound(np.array([0.02, 0.9])) == 0.05


@pytest.mark.parametrize("width", [10, 100])
def test_chance_alone_is_rarely_beyond_chance(width: int) -> None:
    """New cases of the same population fall below the bound about once in a thousand."""
    generator = np.random.default_rng(width)

    def drawn(name: str, n: int) -> VectorSet:
        ids = [f"{name}{row}" for row in range(n)]
        return VectorSet.of(generator.normal(size=(n, width)), ids, what=name)

    found = beyond_chance(drawn("s", 4000), drawn("t", 100), drawn("u", 40))
    assert found.share.value is not None
    assert found.share.value < 0.005


@pytest.fixture(scope="module")
def whole(smoke_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the real stages up to sampling of its one test case."""
    folder = tmp_path_factory.mktemp("whole")
    settings = [f"workspace={smoke_workspace}", "observers=[]", "sample.split=test"]
    recipe = load_recipe(CCELLA, ["smoke"], settings)
    train(recipe, folder)
    sample(recipe, folder)
    return folder


QUICK = ("evaluate.bootstrap=10", "evaluate.feature_dim=2", "evaluate.baseline_halves=2")


def test_a_copy_is_found_in_latent_space_too(
    smoke_workspace: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = Manifest.read(smoke_workspace / "prepared")
    source = prepared.split("train")[1]
    made = Manifest.read(whole / "samples").cases[0]
    folder = tmp_path / "samples"
    (folder / "volumes").mkdir(parents=True)
    counterparts = []
    for name, path in (
        ("copy", prepared.image_path(source, "t2w")),
        ("other", Manifest.read(whole / "samples").image_path(made, "t2w")),
    ):
        (folder / "volumes" / f"{name}.nii.gz").write_bytes(path.read_bytes())
        scale = {"int16_scale": made.extra["int16_scale"]} if name == "other" else {}
        extra = {"spacing_mm": [8.0, 8.0, 6.0], **scale}
        images = {"t2w": f"volumes/{name}.nii.gz"}
        counterparts.append(Case(id=name, group=name, images=images, extra=extra))
    Manifest(folder, counterparts).write()
    shared = ["--workspace", str(smoke_workspace), "--out", str(tmp_path / "run")]
    quick = [word for key in (*QUICK, "observers=[]") for word in ("--set", key)]
    command = ["evaluate", CCELLA, "--profile", "smoke", *shared, *quick]
    assert main([*command, "--samples", str(folder), "--gate", "0.01"]) == 2
    said = capsys.readouterr()
    assert "copies_share_latent" in said.out
    assert "may not be handed on: 50.00%" in said.err
    # Without a gate the same numbers are shown again, and nothing is held back.
    assert main([*command, "--samples", str(folder)]) == 0
    assert "up to date" in capsys.readouterr().out
    out = tmp_path / "run" / "evaluation" / "external" / "samples"
    found = json.loads((out / "metrics.json").read_text())["metrics"]
    for space in ("latent", "image"):
        assert found[f"copies_beyond_chance_{space}"]["value"] == 0.5
    spaces = json.loads((out / "memorisation.json").read_text())["spaces"]
    worst = spaces["latent"]["worst"][0]
    assert (worst["synthetic"], worst["training"]) == ("copy", source.id)
    assert worst["ratio"] < 1e-3


def test_the_head_on_held_out_reports_says_what_it_says_when_sampling(
    smoke_workspace: Path, whole: Path
) -> None:
    """The one test case was sampled; its report alone, without its label, gives the same answer."""
    watched = ("observers=[{name: tensorboard}]", "sample.split=test")
    recipe = load_recipe(CCELLA, ["smoke"], [f"workspace={smoke_workspace}", *QUICK, *watched])
    evaluate(recipe, whole)
    found = read(whole)
    (counterpart,) = Manifest.read(whole / "samples")
    said = counterpart.extra["predicted_probabilities"]["positive"]
    truth = float(counterpart.label == "positive")
    for suffix in ("", "_heldout"):
        error = found["metrics"][f"text_brier{suffix}"]
        assert error["value"] == pytest.approx((said - truth) ** 2, abs=1e-5)
        assert (error["n"], error["split"]) == (1, "test")

    # TensorBoard has the same numbers, beside the settings that led to them.
    events = EventAccumulator(str(whole / "tensorboard" / "evaluate"))
    events.Reload()
    known = {name: n["value"] for name, n in found["metrics"].items() if n["value"] is not None}
    assert set(events.Tags()["scalars"]) == set(known)
    for name, value in known.items():
        (event,) = events.Scalars(name)
        assert (event.step, event.value) == (2, pytest.approx(value, rel=1e-5))
    content = events.summary_metadata[SESSION_START_INFO_TAG].plugin_data.content
    settings = parse_session_start_info_plugin_data(content).hparams
    assert settings["train.steps"].number_value == 2
    assert settings["conditioner.name"].string_value == "ccella"
    assert not any("workspace" in key or "data" in key for key in settings)
