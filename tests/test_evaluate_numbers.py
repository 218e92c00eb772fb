"""What `voxella evaluate` measures, against the plain formulas on the features it has kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_bench import CCELLA, QUICK, Hospital, anatomy, synthetic
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from shell import environment
from sklearn.metrics import average_precision_score, roc_auc_score

from voxella.case import Case, Manifest
from voxella.evaluation import stage
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.features import extract_all
from voxella.evaluation.networks import feature_networks
from voxella.evaluation.plan import make_plan
from voxella.evaluation.sets import read_sets
from voxella.evaluation.stage import evaluate
from voxella.hashing import sha256_file
from voxella.metrics.diversity import disjoint_pairs
from voxella.ranks import Ranks
from voxella.workspace.folders import Folders

PLANES = ("sagittal", "coronal", "axial")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"))


def head(case: Case) -> dict[str, Any]:
    """Every third case has no report; what the head says has no system."""
    number = int(case.id[-2:])
    positive = round((number * 37 % 100) / 100, 6)
    return {
        "predicted_probabilities": {"negative": round(1 - positive, 6), "positive": positive},
        "prompt_sha256": None if number % 3 == 0 else "f" * 64,
    }


@pytest.fixture(scope="module")
def run(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one volume of each training case, evaluated; not to be changed."""
    folder = tmp_path_factory.mktemp("evaluated")
    synthetic(hospital, folder / "samples", hospital.cases("train"), extra=head)
    evaluate(hospital.recipe(), folder)
    # Other tests add to what is kept of the real cases.
    shutil.copytree(hospital.folder / "evaluation", folder / "real" / "evaluation")
    return folder


@pytest.fixture(scope="module")
def found(run: Path) -> dict[str, Any]:
    return read(run)


def read(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return loaded


def kept(folder: Path, network: str) -> list[NDArray[np.float64]]:
    """The rows of every case that a folder of features holds."""
    files = sorted((folder / "evaluation" / "features" / network).glob("*.safetensors"))
    return [load_file(path)["features"].numpy().astype(np.float64) for path in files]


def features(run: Path, network: str) -> tuple[list[Any], list[Any]]:
    """Of the real and of the synthetic cases."""
    return kept(run / "real", network), kept(run, network)


def test_fid_is_the_formula_on_the_kept_features(run: Path, found: dict[str, Any]) -> None:
    for name in ("", *(f"-{plane}" for plane in PLANES)):
        real, made = (np.concatenate(s) for s in features(run, f"random-seed0{name}"))
        means, spreads = [v.mean(axis=0) for v in (real, made)], [np.cov(v.T) for v in (real, made)]
        root = sqrtm(spreads[0] @ spreads[1]).real
        expected = ((means[0] - means[1]) ** 2).sum() + np.trace(sum(spreads) - 2 * root)
        kind = "3d" if not name else f"2d_{name[1:]}"
        assert found["metrics"][f"fid_{kind}"]["value"] == pytest.approx(expected, rel=1e-6), kind


def test_kid_is_the_formula_on_pairs_of_two_patients(run: Path, found: dict[str, Any]) -> None:
    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((a @ b.T / a.shape[1] + 1) ** 3)

    def within(cases: list[Any]) -> float:
        pairs = [(a, b) for i, a in enumerate(cases) for j, b in enumerate(cases) if i != j]
        return float(np.mean([k(a, b) for a, b in pairs]))

    for name in ("", "-axial"):
        real, made = features(run, f"random-seed0{name}")
        assert len(real) == len(made) == 14
        across = float(np.mean([k(a, b) for a in real for b in made]))
        expected = within(real) + within(made) - 2 * across
        kind = "3d" if not name else f"2d_{name[1:]}"
        assert found["metrics"][f"kid_{kind}"]["value"] == pytest.approx(expected, abs=1e-12), kind


def test_every_number_says_what_it_must_not_be_read_without(found: dict[str, Any]) -> None:
    assert (found["format"], found["split"], found["paired"]) == (1, "train", True)
    for name, number in found["metrics"].items():
        assert {"value", "low", "high", "n", "level", "how", "note", "split"} <= set(number), name
        assert number["value"] is not None or number["note"], name
        if name.startswith(("kid", "fid", "ms_ssim", "histogram", "precision")):
            assert set(number["floor"]) >= {"value", "low", "high"}, name
            assert number["low"] <= number["value"] <= number["high"], name
        if name.startswith(("kid", "fid")):
            assert number["n"] == 14
            assert number["network"].startswith("random-seed0")
            assert number["comparable_with_paper"] is False
    expected = {f"{kind}_2d_{plane}" for kind in ("kid", "fid") for plane in PLANES}
    expected |= {"kid_3d", "fid_3d", "ms_ssim", "precision", "recall", "density", "coverage"}
    heads = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "auc", "ap")
    expected |= {f"text_{name}{suffix}" for name in heads for suffix in ("", "_with_report")}
    expected |= {"histogram_distance", "copies_share_latent", "copies_share_image"}
    assert expected <= set(found["metrics"])


def test_text_head_with_and_without_the_cases_that_have_no_report(
    hospital: Hospital, found: dict[str, Any]
) -> None:
    cases = hospital.cases("train")
    for suffix, chosen in (
        ("", cases),
        ("_with_report", [case for case in cases if int(case.id[-2:]) % 3]),
    ):
        truth = np.array([case.label == "positive" for case in chosen])
        said = np.array([head(case)["predicted_probabilities"]["positive"] for case in chosen])
        metric = {n: found["metrics"][f"text_{n}{suffix}"]["value"] for n in ("accuracy", "auc")}
        assert metric["accuracy"] == pytest.approx(((said > 0.5) == truth).mean())
        assert metric["auc"] == pytest.approx(roc_auc_score(truth, said))
        precision = found["metrics"][f"text_ap{suffix}"]
        assert precision["value"] == pytest.approx(average_precision_score(truth, said))
        curve = found["calibration"][f"text{suffix}"]
        assert sum(part["observed"]["n"] for part in curve) == len(chosen)
        inside = (said >= 0.8) & (said < 0.9)
        assert curve[8]["predicted"] == pytest.approx(said[inside].mean())
        assert curve[8]["observed"]["value"] == pytest.approx(truth[inside].mean())
    assert found["metrics"]["text_accuracy"]["n"] == 14
    assert found["metrics"]["text_accuracy_with_report"]["n"] == 9


def test_numbers_of_a_random_network_are_never_beside_the_papers(
    hospital: Hospital,
    run: Path,
    found: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "paper" not in found
    evaluate(hospital.recipe(), run)  # up to date: shows what there is
    said = capsys.readouterr().out
    assert "up to date" in said
    assert "random-seed0, 4, comparable with no published number" in said
    assert "paper" not in said.replace("the paper", "")
    # The same numbers, were the network of slices the paper's: its row stands beside those alone.
    recipe = hospital.recipe()
    ours = feature_networks(recipe.evaluate, recipe.data, recipe.prepare)
    known = [replace(n, comparable_with_paper=n.plane is not None) for n in ours]
    monkeypatch.setattr(stage, "networks_of", lambda *blocks: known)
    # It was taken on held-out patients: not beside training cases, nor beside phantoms.
    synthetic(hospital, tmp_path / "train" / "samples", hospital.cases("train"), extra=head)
    evaluate(hospital.recipe(), tmp_path / "train")
    assert "paper" not in read(tmp_path / "train")
    synthetic(hospital, tmp_path / "samples", hospital.cases("test"), extra=head)
    capsys.readouterr()
    evaluate(hospital.recipe(), tmp_path)
    row = read(tmp_path)["paper"]
    assert row == {
        "model": "ccella",
        **{"fid_2d_sagittal": 5.27, "fid_2d_coronal": 4.73, "fid_2d_axial": 8.09},
    }
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if line.strip().startswith("fid_2d_axial"))
    assert line.split()[-1] == "8.09"
    line = next(line for line in said.splitlines() if line.strip().startswith("fid_3d"))
    assert line.split()[-1] == "-"
    phantoms = [c.model_copy(update={"label_source": "phantom"}) for c in hospital.cases("test")]
    prepared = tmp_path / "workspace" / "prepared"
    shutil.copytree(hospital.prepared, prepared)
    Manifest(prepared, phantoms).write()
    other = hospital.recipe().model_copy(update={"workspace": prepared.parent})
    evaluate(other, tmp_path)
    assert "paper" not in read(tmp_path)


def test_noise_is_further_away_than_other_patients(
    hospital: Hospital, found: dict[str, Any], tmp_path: Path
) -> None:
    def noise(case: Case) -> NDArray[np.float32]:
        return np.random.default_rng(int(case.id[-2:])).random((16, 16, 16), dtype=np.float32)

    synthetic(hospital, tmp_path / "samples", hospital.cases("train"), make=noise)
    evaluate(hospital.recipe(), tmp_path)
    worse = read(tmp_path)["metrics"]
    for name in ("kid_3d", "fid_3d", "kid_2d_axial", "histogram_distance"):
        good, bad = found["metrics"][name], worse[name]
        assert bad["low"] > good["high"], name
        assert bad["value"] > bad["floor"]["high"], name
    # Other patients of the same hospital are as near as real ones are to each other.
    assert found["metrics"]["kid_3d"]["low"] < found["metrics"]["kid_3d"]["floor"]["high"]
    assert worse["precision"]["value"] == 0.0
    assert "no class probabilities" in worse["text_auc"]["note"]


def test_a_real_volume_in_int16_is_the_real_volume(hospital: Hospital, tmp_path: Path) -> None:
    synthetic(
        hospital,
        tmp_path / "samples",
        hospital.cases("test"),
        make=lambda case: np.rint(hospital.volume(case) * 962).astype(np.int64),
        extra=lambda case: {"int16_scale": 962.0},
    )
    evaluate(hospital.recipe(), tmp_path)
    found = read(tmp_path)
    assert found["split"] == "test"
    assert found["metrics"]["fid_3d"]["value"] < 1e-6
    assert found["metrics"]["histogram_distance"]["value"] < 1e-3
    # The histogram of the volumes, by hand: foreground is what is brighter than a bin.
    values = np.concatenate([hospital.volume(case).ravel() for case in hospital.cases("test")])
    dark = found["tissue_bands"][0]
    inside = (values > 1 / 256) & (values < dark["high"])
    assert dark["share_real"] == pytest.approx(inside.sum() / (values > 1 / 256).sum(), abs=1e-6)


def test_too_few_cases_are_said_and_not_measured(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = tmp_path / "samples"
    synthetic(hospital, samples, hospital.cases("train")[:4])
    evaluate(hospital.recipe("evaluate.fid_singular=refuse"), tmp_path)
    metrics = read(tmp_path)["metrics"]
    assert metrics["fid_3d"]["value"] is None
    assert "4 vectors of 4 features" in metrics["fid_3d"]["note"]
    assert "kernel distance (KID)" in metrics["fid_3d"]["note"]
    assert metrics["kid_3d"]["value"] is not None
    assert (metrics["kid_3d"]["n"], metrics["density"]["value"]) == (4, None)
    assert "no 5 neighbours" in metrics["density"]["note"]
    # As published numbers were taken, which the paper's recipes ask for: never without the warning.
    capsys.readouterr()
    evaluate(hospital.recipe(), tmp_path)
    singular = read(tmp_path)["metrics"]["fid_3d"]
    assert singular["value"] > 0
    assert "too large by an amount" in singular["warning"]
    said = capsys.readouterr().out
    assert f"fid_3d {singular['value']:.4g}" in " ".join(said.split())
    assert "warning: fid_3d" in said
    assert "too large by an amount" in said


def test_killed_and_run_again_it_looks_at_no_volume_twice(
    hospital: Hospital, found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = sys.modules["voxella.evaluation.features"]
    genuine = module.read_images
    seen: list[str] = []

    def counting(subject: Any, most: int = 5) -> Any:
        if len(seen) == most:
            raise KeyboardInterrupt
        seen.append(subject.id)
        return genuine(subject)

    synthetic(hospital, tmp_path / "samples", hospital.cases("train"), extra=head)
    monkeypatch.setattr(module, "read_images", counting)
    with pytest.raises(KeyboardInterrupt):
        evaluate(hospital.recipe(), tmp_path)
    assert not (tmp_path / "evaluation" / "stage.json").exists()
    monkeypatch.setattr(module, "read_images", partial(counting, most=-1))
    evaluate(hospital.recipe(), tmp_path)
    # The real ones were known from another run of the workspace.
    assert sorted(seen) == [f"case-{n:02d}-s000" for n in range(14)]
    before = read(tmp_path)["metrics"]
    assert before == found["metrics"]
    # Other draws need no volume; a changed volume only itself.
    seen.clear()
    evaluate(hospital.recipe("seed=1"), tmp_path)
    assert seen == []
    assert read(tmp_path)["metrics"]["fid_3d"]["low"] != before["fid_3d"]["low"]
    one = Manifest.read(tmp_path / "samples").cases[3]
    path = tmp_path / "samples" / one.images["t2w"]
    path.write_bytes((hospital.prepared / "case-20.nii.gz").read_bytes())
    evaluate(hospital.recipe(), tmp_path)
    assert seen == [one.id]


def test_processes_share_the_volumes(hospital: Hospital, tmp_path: Path) -> None:
    recipe = hospital.recipe("evaluate.feature_dim=3")
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    sets = read_sets(SetSettings.of(recipe), Manifest.read(hospital.prepared), tmp_path / "samples")
    folders = Folders.of(tmp_path, recipe.workspace, recipe.data.dataset)
    networks = feature_networks(recipe.evaluate, recipe.data, recipe.prepare)
    for rank in (0, 1):
        plan = make_plan(recipe, folders, sets, networks, Ranks(rank, rank, 2))
        extract_all(plan.wanted(), Ranks(rank, rank, 2))
        written = len(list((tmp_path / "evaluation" / "features" / "histogram").iterdir()))
        assert written == (7, 14)[rank]
    alone = networks[0].features(
        torch.from_numpy(hospital.volume(hospital.cases("train")[0]))[None]
    )
    rows = plan.real_store.read(plan.networks[0][1], sets.real[0])
    assert torch.equal(rows, alone)


def test_each_process_hashes_its_share_of_the_volumes(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = sys.modules["voxella.engine.hashes"]
    read: list[Path] = []

    def counting(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    prepared = Manifest.read(hospital.prepared)
    alone = read_sets(SetSettings.of(hospital.recipe()), prepared, tmp_path / "samples")
    monkeypatch.setattr(module, "sha256_file", counting)
    # The other process's part, as it would send it: it knows all hashes beforehand.
    real = [prepared.image_path(case, "t2w") for case in prepared]
    every = {path: sha256_file(path) for path in (*alone.hashes, *real)}
    monkeypatch.setattr(module, "all_gather_object", lambda value: [(every, []), value])
    shares = []
    for rank in range(3):
        sets = read_sets(
            SetSettings.of(hospital.recipe()), prepared, tmp_path / "samples", Ranks(rank, rank, 3)
        )
        assert sets.hashes.keys() == alone.hashes.keys()
        shares.append(set(read))
        assert len(read) == len(shares[-1])
        read.clear()
    assert not shares[0] & shares[1]
    assert sorted(map(len, shares)) == [12, 13, 13]  # 14 synthetic and 24 real volumes
    assert sum(map(len, shares)) == len(shares[0] | shares[1] | shares[2])


def test_an_evaluation_that_is_up_to_date_reads_each_volume_once(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic(hospital, tmp_path / "samples", hospital.cases("train"))
    recipe = hospital.recipe("evaluate.gate=1")
    evaluate(recipe, tmp_path)
    read: Counter[Path] = Counter()

    def counting(path: Path) -> str:
        read[path] += 1
        return sha256_file(path)

    for name in ("voxella.engine.hashes", "voxella.data.gate"):
        monkeypatch.setattr(sys.modules[name], "sha256_file", counting)
    evaluate(recipe, tmp_path)
    assert set(read.values()) == {1}
    assert len(read) == 14 + 24


_DRIVER = """
import sys
from collections import Counter
from pathlib import Path
from voxella.ranks import Ranks
from voxella.errors import UserError
from voxella.recipe.load import load_recipe
from voxella.evaluation.stage import evaluate
recipe = load_recipe(sys.argv[1], ["smoke"], sys.argv[3:])
try:
    evaluate(recipe, Path(sys.argv[2]) / "bad")
except UserError as refusal:
    Path(sys.argv[2], f"refused-{Ranks.from_environment().rank}").write_text(str(refusal))
evaluate(recipe, Path(sys.argv[2]) / "good")
"""


@pytest.mark.slow
def test_two_processes_find_what_one_finds(
    hospital: Hospital, found: dict[str, Any], tmp_path: Path
) -> None:
    def holed(case: Case) -> NDArray[np.float32]:
        volume = anatomy(5000 + int(case.id[-2:]))
        volume[0, 0, 0] = np.nan if case.id in ("case-01", "case-04") else 0.0
        return volume

    synthetic(hospital, tmp_path / "bad" / "samples", hospital.cases("train"), make=holed)
    synthetic(hospital, tmp_path / "good" / "samples", hospital.cases("train"), extra=head)
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(str(driver), CCELLA, str(tmp_path), f"workspace={hospital.folder}", *QUICK),
    ]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Each process has looked at one of the two bad volumes; all processes name both.
    for rank in (0, 1):
        said = (tmp_path / f"refused-{rank}").read_text()
        assert "case-01-s000: 1 voxels are NaN" in said
        assert "case-04-s000: 1 voxels are NaN" in said
    assert read(tmp_path / "good")["metrics"] == found["metrics"]


def test_single_slices_are_images_of_one_plane(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "workspace", train=8, test=4, val=0, thickness=1)
    slices = {
        case.id: anatomy(5000 + int(case.id[-2:]))[:, :, :1] for case in hospital.cases("train")
    }
    synthetic(
        hospital,
        tmp_path / "samples",
        hospital.cases("train"),
        make=lambda case: slices[case.id],
    )
    flat = ("prepare.size=[16,16]", "prepare.crop_mm=[128,128]", "latent.size=[4,4]")
    evaluate(hospital.recipe(*flat), tmp_path)
    metrics = read(tmp_path)["metrics"]
    for name in ("kid_3d", "fid_3d", "kid_2d_sagittal", "fid_2d_coronal"):
        assert metrics[name]["note"] == "the images are single slices"
    for name in ("kid_2d_axial", "fid_2d_axial", "ms_ssim", "precision", "copies_share_image"):
        assert metrics[name]["value"] is not None
    # SSIM of two axes, by another library, over the pairs that were drawn.
    ids = [f"{name}-s000" for name in slices]
    patients = [f"patient-{name[-2:]}" for name in slices]
    pairs = disjoint_pairs(ids, patients, seed=0, name="ms_ssim")[:3]
    images = {f"{name}-s000": image[:, :, 0].astype(np.float64) for name, image in slices.items()}
    expected = np.mean([ssim_by_hand(images[a], images[b]) for a, b in pairs])
    assert metrics["ms_ssim"]["value"] == pytest.approx(expected, abs=1e-3)


def ssim_by_hand(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Wang et al. 2004, equation 13, over the windows that lie inside: 11 wide, sigma 1.5."""

    def local(image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5])

    means = local(a), local(b)
    variances = local(a * a) - means[0] ** 2, local(b * b) - means[1] ** 2
    covariance = local(a * b) - means[0] * means[1]
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * means[0] * means[1] + c1) / (means[0] ** 2 + means[1] ** 2 + c1)
    return float((luminance * (2 * covariance + c2) / (sum(variances) + c2)).mean())


def test_another_data_set_is_measured_beside_the_runs_own(
    hospital: Hospital, run: Path, found: dict[str, Any]
) -> None:
    """Without sources: no pairing, spacing held to the range of the real cases."""
    before = sha256_file(run / "evaluation" / "metrics.json")
    theirs = run / "theirs"
    synthetic(hospital, theirs, hospital.cases("train"), extra=lambda case: {"source_case": "?"})
    evaluate(hospital.recipe(), run, theirs)
    assert sha256_file(run / "evaluation" / "metrics.json") == before
    path = run / "evaluation" / "external" / "theirs" / "metrics.json"
    measured = json.loads(path.read_text())
    assert measured["paired"] is False
    for name in ("kid_3d", "fid_3d", "kid_2d_coronal"):
        same = found["metrics"][name]["value"]
        assert measured["metrics"][name]["value"] == pytest.approx(same, abs=1e-12)
    assert "text_auc_heldout" not in measured["metrics"]


def another(case: Case, first: int) -> NDArray[np.float32]:
    return anatomy(first + int(case.id[-2:]))


def test_a_sweep_is_measured_data_set_by_data_set(hospital: Hospital, tmp_path: Path) -> None:
    names = ("steps-2_guidance-1", "steps-3_guidance-1")
    for number, name in enumerate(names):
        synthetic(
            hospital,
            tmp_path / "samples" / name,
            hospital.cases("train"),
            make=partial(another, first=9000 + 100 * number),
        )
    evaluate(hospital.recipe("sample.sweep={steps: [2, 3]}"), tmp_path)
    values = [
        json.loads((tmp_path / "evaluation" / name / "metrics.json").read_text())["metrics"]
        for name in names
    ]
    assert values[0]["fid_3d"]["value"] != values[1]["fid_3d"]["value"]
    assert not (tmp_path / "evaluation" / "metrics.json").exists()
