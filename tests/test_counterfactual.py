"""One fact changed: a generator whose effect is known, one without any, and phantoms themselves."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.data.importing import import_dataset
from voxella.detection import CHANGES, Counterfactual
from voxella.evaluation.counterfactual.effect import effect, flip_probability
from voxella.evaluation.stage import evaluate
from voxella.ldm.train import train
from voxella.plugins.component import Component
from voxella.plugins.contracts import counterfactuals_of
from voxella.recipe.load import load_recipe
from voxella.sampling.stage import sample
from voxella_importers.phantom.probe import phantom as phantom_probe

WORDS = ("r", "share")
RNG = np.random.default_rng(7)
MAP = RNG.normal(size=4000)
MAPS = np.stack([MAP, MAP])  # known without error: every draw is the same
PATIENTS = [f"p{n:02d}" for n in range(24)]


@pytest.mark.parametrize("factor", [0.09, 1.0, -0.5])
def test_a_generator_of_known_effect(factor: float) -> None:
    """Every volume changes by a factor of the real map: r is its sign, the share is the factor."""
    r, share = effect(
        np.tile(factor * MAP, (24, 1)), MAPS, PATIENTS, seed=0, name="t", replicates=200
    )
    assert r.value == pytest.approx(np.sign(factor), abs=1e-6)
    assert share.value == pytest.approx(factor, rel=1e-5)
    assert share.low == pytest.approx(factor, rel=1e-5)
    assert r.n == share.n == 24


def test_what_the_sampler_changes_besides_lowers_r_and_not_the_share() -> None:
    """Noise of s.d. t on a map of s.d. 1 times k: r = k / sqrt(k^2 + t^2 / N), share = k."""
    k, t = 0.1, 1.0
    noise = np.random.default_rng(1).normal(scale=t, size=(24, MAP.size))
    r, share = effect(k * MAP + noise, MAPS, PATIENTS, seed=0, name="t", replicates=400)
    assert r.value == pytest.approx(k / np.sqrt(k**2 + t**2 / 24), abs=0.03)
    assert share.value == pytest.approx(k, abs=4 * t / np.sqrt(24 * MAP.size))
    assert share.low is not None
    assert share.high is not None
    assert share.low < k < share.high
    assert "probability 0.00025" in str(share.note)  # 1 of 4001: no draw of signs reaches it


def test_a_perfect_model_reaches_one_though_the_map_is_known_badly() -> None:
    """Three draws of the map, each as much chance as effect: the slope on their mean were 3/4."""
    own = np.random.default_rng(2)
    maps = MAP + own.normal(size=(3, MAP.size))
    changes = MAP + own.normal(size=(24, MAP.size))
    r, share = effect(changes, maps, PATIENTS, seed=0, name="t", replicates=200)
    mean = maps.mean(axis=0)
    assert MAP @ mean / (mean @ mean) == pytest.approx(0.75, abs=0.02)
    assert share.value == pytest.approx(1.0, abs=0.05)
    assert r.value == pytest.approx(1 / np.sqrt(1 + 1 / 24), abs=0.05)


def test_an_offset_of_all_voxels_is_no_effect() -> None:
    r, share = effect(np.full((24, MAP.size), 0.3), MAPS, PATIENTS, seed=0, name="t", replicates=50)
    assert share.value == pytest.approx(0.0, abs=1e-9)
    assert r.value is None
    assert "do not change" in str(r.note)


def test_a_generator_without_effect() -> None:
    """Of 40 null generators about 5 % are taken for one with an effect, not more than chance."""
    taken = 0
    for trial in range(40):
        noise = np.random.default_rng(100 + trial).normal(size=(24, MAP.size))
        r, share = effect(noise, MAPS, PATIENTS, seed=trial, name="t", replicates=200)
        assert abs(float(r.value or 0)) < 5 / np.sqrt(MAP.size)  # 5 standard errors of a null r
        assert share.low is not None
        assert share.high is not None
        taken += not share.low < 0 < share.high
    assert (
        taken <= 7
    )  # P(8 or more of 40 at 0.05) is 1 in 1000; a bootstrap of 24 covers a little less


def test_signs_of_four_patients_by_hand() -> None:
    """Of 16 ways to sign equal slopes, 2 reach the observed sum: 1/8."""
    found = flip_probability(np.ones(4), ["a", "b", "c", "d"], seed=0, name="t")
    assert found == pytest.approx(1 / 8, abs=0.02)
    # Two rows of one patient turn together: 2 of 8.
    assert flip_probability(np.ones(4), ["a", "a", "b", "c"], seed=0, name="t") == pytest.approx(
        1 / 4, abs=0.03
    )


def test_one_patient_has_no_interval_and_gets_no_number() -> None:
    r, share = effect(MAP[None], MAPS, ["a"], seed=0, name="t")
    assert r.value is None
    assert share.value is None
    assert "two patients" in str(share.note)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    settings = {
        "cases": 6,
        "size": [36, 36, 20],
        "spacing_mm": [4, 4, 5],
        "lesion_size_mm": [8, 22],
        "missing_reports": 0,
        "second_lesion_share": 0,
        "benign_focus_share": 0,
        "workers": 1,
    }
    component = Component.model_validate({"name": "phantom", **settings})
    return import_dataset(component, tmp_path_factory.mktemp("phantoms") / "dataset")


def changes_of(dataset: Manifest, case: Case) -> dict[str, Counterfactual]:
    return {one.fact: one for one in counterfactuals_of(phantom_probe(), dataset, case)}


def test_every_fact_is_changed_alone(phantoms: Manifest) -> None:
    """The words on sides, and the voxels, differ where the fact does and nowhere else."""
    seen = set()
    for case in phantoms:
        for fact, change in changes_of(phantoms, case).items():
            seen.add(fact)
            assert change.before.report != change.after.report
            if fact == "side":
                told, other = change.before.report.lower(), change.after.report.lower()
                assert told.replace("right", "left") == other
            (before, affine), (after, same) = change.images(0)
            assert np.array_equal(affine, same)
            moved = before != after
            assert moved.any()
            if fact != "volume":
                # A lesion of 22 mm in 144 x 144 x 96 mm, twice for the sides; blurred by a voxel.
                assert moved.mean() < 0.05
    assert seen == set(CHANGES)


def test_a_case_is_one_of_its_versions(phantoms: Manifest) -> None:
    """Without a lesion, or with the one that is changed: its own report, byte for byte."""
    for case in phantoms:
        versions = [v for c in changes_of(phantoms, case).values() for v in (c.before, c.after)]
        assert phantoms.read_text(case, "report") in [version.report for version in versions]


def test_the_lesion_of_a_side_is_on_that_side(phantoms: Manifest) -> None:
    """Darker where it is: right is +x, so the change from right to left darkens negative x."""
    checked = 0
    for case in phantoms:
        change = changes_of(phantoms, case).get("side")
        if change is None:
            continue
        (before, affine), (after, _) = change.images(0)
        difference = after - before
        x = np.arange(difference.shape[0]) * affine[0, 0]
        dark = (x[:, None, None] * np.minimum(difference, 0)).sum() / difference.clip(max=0).sum()
        bright = (x[:, None, None] * difference.clip(min=0)).sum() / difference.clip(min=0).sum()
        assert dark < bright
        checked += 1
    assert checked >= 4


def test_volumes_are_told_to_the_conditions_too(phantoms: Manifest) -> None:
    change = changes_of(phantoms, phantoms.cases[0])["volume"]
    assert change.before.conditions["volume"] == pytest.approx(32.0)
    assert change.after.conditions["volume"] == pytest.approx(76.0)
    assert "32" in change.before.report
    assert "76" in change.after.report
    assert change.before.conditions["age"] == change.after.conditions["age"]


def test_other_draws_keep_what_is_told(phantoms: Manifest) -> None:
    """Two draws are other images; both travel to other processes as they are."""
    change = changes_of(phantoms, phantoms.cases[0])["presence"]
    first, second = change.images(1), change.images(2)
    assert not np.array_equal(first[1][0], second[1][0])
    again = pickle.loads(pickle.dumps(change)).images(1)
    assert np.array_equal(again[1][0], first[1][0])


def test_a_report_is_in_no_repr(phantoms: Manifest) -> None:
    change = changes_of(phantoms, phantoms.cases[0])["volume"]
    assert change.before.report.split()[0] not in repr(change.before)


def test_without_a_record_nothing_is_changed(phantoms: Manifest, tmp_path: Path) -> None:
    moved = Manifest(tmp_path, phantoms.cases)
    assert changes_of(moved, phantoms.cases[0]) == {}


def test_a_trained_run_is_measured_and_a_perfect_model_would_reach_the_floor(
    smoke_workspace: Path, tmp_path: Path
) -> None:
    """After two steps nothing is learnt; the floors are those of real phantoms, redrawn."""
    settings = [f"workspace={smoke_workspace}", "observers=[]", "sample.split=train"]
    settings += ["evaluate.counterfactuals=3", "evaluate.metrics=[{name: counterfactual}]"]
    recipe = load_recipe(str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], settings)
    train(recipe, tmp_path)
    sample(recipe, tmp_path)
    evaluate(recipe, tmp_path)
    found = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["metrics"]
    assert set(found) == {f"counterfactual_{fact}_{what}" for fact in CHANGES for what in WORDS}
    for fact in CHANGES:
        r, share = (found[f"counterfactual_{fact}_{what}"] for what in WORDS)
        # Of two patients' lesions, drawn anew elsewhere in the same zone, little lies on the same
        # place; a gland's size lies where it was.
        assert r["floor"]["value"] > (0.7 if fact in ("size", "volume") else 0)
        assert share["value"] == pytest.approx(0, abs=0.01)
        assert "at the same noise" in share["note"]
        assert share["n"] == 2  # three cases of two patients
    assert found["counterfactual_volume_share"]["floor"]["value"] == pytest.approx(1, abs=0.15)


def test_by_default_no_volume_is_made(smoke_workspace: Path) -> None:
    settings = [f"workspace={smoke_workspace}"]
    recipe = load_recipe(str(REPOSITORY / "recipes" / "ccella.yaml"), ["smoke"], settings)
    assert recipe.evaluate.counterfactuals == 0
    assert "counterfactuals" not in recipe.evaluate.model_dump()  # records from before still hold
