"""Pictures in colour are evaluated as volumes are: Inception, two splits, copies, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inception_weights import inception_file
from numpy.typing import NDArray
from PIL import Image
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest, Split
from voxella.errors import UserError
from voxella.evaluation import stage
from voxella.evaluation.networks import feature_networks, kind_of, networks_of
from voxella.evaluation.stage import evaluate
from voxella.files import write_json_atomic
from voxella.imaging.volume import read_image
from voxella.metrics.features.inception import inception
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

SIDE = 16
Pixels = NDArray[np.uint8]
SPLITS: dict[Split, int] = {"train": 14, "val": 2, "test": 8}


def tile(seed: int) -> Pixels:
    """Return ``(rows, columns, 3)``: what all have in common, and what one has alone."""
    shared = np.random.default_rng(999).uniform(60, 200, (4, 4, 3))
    own = np.random.default_rng(seed).normal(0, 40, (8, 8, 3))
    grown = shared.repeat(4, 0).repeat(4, 1) + own.repeat(2, 0).repeat(2, 1)
    return np.asarray(np.clip(grown, 0, 255), dtype=np.uint8)


def number_of(case: Case) -> int:
    return int(case.id[-2:])


class Slides:
    """Prepared tiles in a workspace, two of each slide."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.prepared = folder, folder / "prepared"
        splits = [split for split, count in SPLITS.items() for _ in range(count)]
        cases = [self._admit(number, split) for number, split in enumerate(splits)]
        Manifest(self.prepared, cases).write()
        write_json_atomic(self.prepared / "stage.json", {"inputs_sha256": "by hand"})

    def _admit(self, number: int, split: Split) -> Case:
        name = f"tile-{number:02d}"
        Image.fromarray(tile(number)).save(self._file(name))
        return Case(
            id=name,
            group=f"slide-{number // 2:02d}",
            images={"tile": f"{name}.png"},
            label=("negative", "positive")[number % 2],
            split=split,
        )

    def _file(self, name: str) -> Path:
        self.prepared.mkdir(parents=True, exist_ok=True)
        return self.prepared / f"{name}.png"

    def cases(self, *splits: Split) -> list[Case]:
        manifest = Manifest.read(self.prepared)
        return [case for split in splits for case in manifest.split(split)]

    def recipe(self, *overrides: str) -> Recipe:
        settings = (
            *(f"workspace={self.folder}", "sample.split=[train, test]", "observers=[]"),
            *("evaluate.bootstrap=20", "evaluate.fid_bootstrap=4", "evaluate.baseline_halves=4"),
            *("evaluate.ms_ssim_pairs=3", "evaluate.feature_dim=4"),
        )
        base = REPOSITORY / "recipes" / "tiles" / "base.yaml"
        return load_recipe(base, ["smoke", "smoke-tiles"], [*settings, *overrides])


def generated(
    slides: Slides,
    run: Path,
    sources: Sequence[Case],
    make: Callable[[Case], Pixels] = lambda case: tile(5000 + number_of(case)),
) -> None:
    """Write a synthetic tile for each source; by default of slides never seen."""
    folder = run / "samples"
    (folder / "volumes").mkdir(parents=True)
    made = []
    for source in sources:
        name = f"{source.id}-s000"
        Image.fromarray(make(source)).save(folder / "volumes" / f"{name}.png")
        extra = {"synthetic": True, "source_case": source.id}
        images = {"tile": f"volumes/{name}.png"}
        group, split = f"synthetic-{source.group}", source.split
        made.append(
            Case(id=name, group=group, images=images, label=source.label, split=split, extra=extra)
        )
    Manifest(folder, made).write()


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Slides:
    return Slides(tmp_path_factory.mktemp("slides"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return inception_file(tmp_path_factory.mktemp("weights"))


def read(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "evaluation" / "metrics.json").read_text())
    return found


def test_two_splits_stand_beside_each_other_and_the_papers_beside_training_captions(
    slides: Slides, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = slides.recipe(
        f"evaluate.inception={weights}",
        "evaluate.fid_singular=note",
        "evaluate.metrics=[{name: distances}]",
        "paper={model: PathLDM, fid: 7.64}",
    )
    generated(slides, tmp_path, slides.cases("train", "test"))
    evaluate(recipe, tmp_path)
    found = read(tmp_path)
    assert [(n["kind"], n["name"]) for n in found["networks"]] == [("2d", "inception-v3-fid")]
    metrics = found["metrics"]
    assert (metrics["fid"]["split"], metrics["fid_heldout"]["split"]) == ("train", "test")
    for key in ("fid", "kid", "fid_heldout", "kid_heldout"):
        one = metrics[key]
        assert one["low"] <= one["value"] <= one["high"]
        assert one["network"] == "inception-v3-fid"
        assert one["floor"]["value"] is not None
    assert found["paper"] == {"model": "PathLDM", "fid": 7.64}
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert (rows["fid"][-1], "train" in rows["fid"]) == ("7.64", True)
    assert (rows["fid_heldout"][-1], "test" in rows["fid_heldout"]) == ("-", True)

    # The number itself, from the files that Pillow wrote.
    network = inception(weights)

    def features(paths: Sequence[Path]) -> NDArray[np.float64]:
        images = [read_image(path) for path in paths]
        rows = [network.features(torch.from_numpy(i.array / i.white).float()) for i in images]
        return np.asarray(torch.cat(rows).double().numpy())

    tested = slides.cases("test")
    real = features([slides.prepared / f"{c.id}.png" for c in tested])
    made = features([tmp_path / "samples" / "volumes" / f"{c.id}-s000.png" for c in tested])
    assert metrics["fid_heldout"]["value"] == pytest.approx(frechet(real, made), rel=1e-5)


def frechet(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The distance of few cases of many features, without a matrix of these.

    With covariances A'A and B'B, the trace of the root of their product is the sum of the singular
    values of AB'.
    """
    a, b = ((x - x.mean(axis=0)) / (len(x) - 1) ** 0.5 for x in (first, second))
    apart = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(apart + (a**2).sum() + (b**2).sum() - 2 * cross)


def test_one_split_is_named_and_the_paper_is_not_beside_held_out_captions(
    slides: Slides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = slides.recipe("sample.split=test", "paper={model: PathLDM, fid: 7.64}")
    ours = feature_networks(recipe.evaluate, recipe.data, recipe.prepare)
    assert [(kind_of(one), one.comparable_with_paper) for one in ours] == [("2d", False)]
    object.__setattr__(ours[0], "comparable_with_paper", True)
    monkeypatch.setattr(stage, "networks_of", lambda *blocks: ours)
    generated(slides, tmp_path, slides.cases("test"))
    evaluate(recipe, tmp_path)
    found = read(tmp_path)
    assert found["metrics"]["fid"]["split"] == "test"
    assert "paper" not in found
    assert not {"fid_heldout", "kid_heldout"} & set(found["metrics"])
    assert found["metrics"]["fid_3d"]["note"] == "the images are single slices"
    assert found["metrics"]["precision"]["network"] == "random-seed0-colour-axial"


def test_a_copied_tile_is_caught_and_held_back(slides: Slides, tmp_path: Path) -> None:
    copied = "tile-03"

    def make(case: Case) -> Pixels:
        return tile(number_of(case) if case.id == copied else 700 + number_of(case))

    generated(slides, tmp_path, slides.cases("train")[:10], make)
    recipe = slides.recipe("sample.split=train", "evaluate.gate=0.01")
    with pytest.raises(UserError, match=r"10\.00% of its volumes"):
        evaluate(recipe, tmp_path)
    found = read(tmp_path)["metrics"]
    for name in ("copies_share_image", "copies_beyond_chance_image"):
        assert (found[name]["value"], found[name]["split"]) == (0.1, "test")
        assert found[name]["low"] == pytest.approx(0.0025, abs=1e-4)  # Clopper-Pearson, 1 of 10
    with Image.open(tmp_path / "evaluation" / "copies-image.png") as picture:
        pixels = np.asarray(picture).astype(int)
    assert np.ptp(pixels, axis=2).max() > 30  # in colours


def test_tiles_that_cannot_be_compared_are_refused_by_name(
    slides: Slides, weights: Path, tmp_path: Path
) -> None:
    generated(slides, tmp_path, slides.cases("test"), lambda case: tile(1)[: SIDE // 2])
    with pytest.raises(UserError, match="8 of 30 cases cannot be evaluated") as refused:
        evaluate(slides.recipe(), tmp_path)
    assert "16 x 8 x 1 voxels, where 16 x 16 x 1 are compared" in str(refused.value)
    assert not (tmp_path / "evaluation" / "metrics.json").exists()
    with pytest.raises(UserError, match="there are no weights at"):
        evaluate(slides.recipe("evaluate.inception=absent.pth"), tmp_path)
    named = slides.recipe(f"evaluate.inception={weights}", "evaluate.inception_sha256=beef")
    with pytest.raises(UserError, match=r"evaluate\.inception: the SHA-256 of"):
        evaluate(named, tmp_path)
    volumes = load_recipe(
        REPOSITORY / "recipes" / "ccella.yaml", ["smoke"], [f"evaluate.inception={weights}"]
    )
    with pytest.raises(UserError, match=r"of pictures, and prepare\.size has three axes"):
        networks_of(volumes.evaluate, volumes.data, volumes.prepare)


def test_grey_slices_keep_their_network_and_may_be_seen_by_inception(
    slides: Slides, weights: Path
) -> None:
    recipe = slides.recipe("prepare.intensity={tile: {rule: none}}")
    blocks = recipe.data, recipe.prepare
    assert [kind_of(one) for one in feature_networks(recipe.evaluate, *blocks)] == ["2d_axial"]
    named = recipe.evaluate.model_copy(update={"inception": weights})
    networks = feature_networks(named, *blocks)
    assert [kind_of(one) for one in networks] == ["2d", "2d_axial"]
    grey = torch.rand(1, SIDE, SIDE, 1, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        networks[0].features(grey), networks[0].features(grey.repeat(3, 1, 1, 1))
    )
