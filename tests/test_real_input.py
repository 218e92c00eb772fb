"""Real prostate MRI with real Dutch reports, from the files as they lie to generated volumes."""

from __future__ import annotations

import json
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from tiny_run import REPOSITORY

from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.cli import main
from voxella.data.pseudonyms import read_synthetic
from voxella.hashing import sha256_file
from voxella.recipe.load import load_recipe

DATA = REPOSITORY.parent / "shared" / "data"
REPORTS = DATA / "reports" / "prostate_mri_nl"
CASES = {"10795_1000811": "sample_2.txt", "11373_1001396": "sample_1.txt"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA / "picai" / "images").is_dir(), reason=f"no real data: {DATA / 'picai'} is absent"
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Import and run, by the commands of the README, with a few steps for hundreds."""
    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path_factory.mktemp("real")
    (folder / "reports.json").write_text(json.dumps(CASES))
    sources = {
        "labels": DATA / "picai" / "picai_labels",
        "reports": REPORTS,
        "reports_map": folder / "reports.json",
        "val_share": 0,
        "test_share": 0,
    }
    settings = [word for key, value in sources.items() for word in ("--set", f"{key}={value}")]
    images = str(DATA / "picai" / "images")
    assert main(["import", "picai", images, "--out", str(folder / "dataset"), *settings]) == 0
    few = [
        *("autoencoder_training.steps=2", "train.steps=2", "sample.steps=2", "sample.count=1"),
        "deepspeed.train_batch_size=2",
    ]
    command = [
        *("run", str(REPOSITORY / "recipes" / "ccella.yaml"), "--profile", "two-cores"),
        *("--dataset", str(folder / "dataset"), "--out", str(folder / "run"), "--workers", "1"),
    ]
    assert main([*command, *(word for value in few for word in ("--set", value))]) == 0
    yield folder
    signal.signal(signal.SIGTERM, before)


def source_of(case: str) -> sitk.Image:
    return sitk.ReadImage(str(DATA / "picai" / "images" / case.split("_")[0] / f"{case}_t2w.mha"))


def prepared(run: Path) -> list[tuple[Case, nib.Nifti1Image]]:
    manifest = Manifest.read(run / "run" / "prepared")
    assert [case.id for case in manifest] == list(CASES)
    return [(case, nib.load(manifest.image_path(case, "t2w"))) for case in manifest]


def test_reports_and_labels_come_with_the_studies(run: Path) -> None:
    manifest = Manifest.read(run / "dataset")
    for case in manifest:
        # Both have a lesion of PI-RADS 4 in the marksheet.
        assert (case.label, case.label_source) == ("positive", "pirads")
        assert case.extra["pirads"] == 4
        assert case.report_sha256 == sha256_file(REPORTS / CASES[case.id])
        copy = run / "dataset" / str(case.report)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_prepared_cases_lie_where_the_scanner_saw_them(run: Path) -> None:
    recipe = load_recipe(run / "run" / "recipe.yaml")
    for case, image in prepared(run):
        source = source_of(case.id)
        assert image.shape == (64, 64, 32)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        depth = recipe.prepare.crop_mm[2] or source.GetSize()[2] * source.GetSpacing()[2]
        expected = (2.0, 2.0, depth / 32)
        assert image.header.get_zooms() == pytest.approx(expected, rel=1e-4)
        assert case.extra["spacing_mm"] == pytest.approx(expected, rel=1e-4)
        # A centre crop keeps the centre. SimpleITK counts millimetres towards left and posterior.
        middle = [(n - 1) / 2 for n in source.GetSize()]
        centre = np.array(source.TransformContinuousIndexToPhysicalPoint(middle)) * [-1, -1, 1]
        found = image.affine @ [31.5, 31.5, 15.5, 1.0]
        np.testing.assert_allclose(found[:3], centre, atol=0.02)
        # And the scan's tilt: both S axes point the same way.
        axis = np.array(source.GetDirection()).reshape(3, 3)[:, 2] * [-1, -1, 1]
        assert abs(float(image.affine[:3, 2] @ axis) / (depth / 32)) == pytest.approx(1, abs=1e-4)


def test_prepared_voxels_are_the_scans(run: Path) -> None:
    for case, image in prepared(run):
        voxels = image.get_fdata()
        assert voxels.min() >= 0.0
        assert voxels.max() <= 1.0
        # SimpleITK's own linear resampling of the scan onto the prepared grid shows the same.
        grid = sitk.Image(64, 64, 32, sitk.sitkFloat32)
        to_lps = np.diag([-1.0, -1.0, 1.0])
        matrix, spacing = to_lps @ image.affine[:3, :3], np.array(image.header.get_zooms())
        grid.SetSpacing(spacing.tolist())
        grid.SetDirection((matrix / spacing).flatten().tolist())
        grid.SetOrigin((to_lps @ image.affine[:3, 3]).tolist())
        scan = sitk.Cast(source_of(case.id), sitk.sitkFloat32)
        theirs = sitk.GetArrayFromImage(
            sitk.Resample(scan, grid, sitk.Transform(), sitk.sitkLinear)
        ).transpose(2, 1, 0)
        # The slices inside the scan: at its ends the two differ in how far they extrapolate.
        inside = (voxels.max(axis=(0, 1)) > 0) & (theirs.max(axis=(0, 1)) > 0)
        assert inside.sum() >= 18
        correlation = np.corrcoef(voxels[..., inside].flatten(), theirs[..., inside].flatten())
        assert correlation[0, 1] > 0.97


def test_reports_are_features_and_no_text_outside_the_data_set(run: Path) -> None:
    cache = TextCache.open(run / "run" / "text")
    for case in CASES:
        features, has_report = cache.read(case)
        assert has_report
        assert features.shape == (256, 384)
    # Dutch in an English vocabulary: more tokens than the encoder is given, which is said.
    assert cache.truncated["reports"] == 2
    texts = [(REPORTS / name).read_bytes() for name in CASES.values()]
    pieces = [text[at : at + 24] for text in texts for at in (0, len(text) // 2, len(text) - 30)]
    for path in (p for p in (run / "run").rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not any(piece in content for piece in pieces), path


def test_volumes_are_generated(run: Path) -> None:
    samples = run / "run" / "samples"
    (raw,) = Manifest.read(samples)
    assert "10795" not in raw.model_dump_json()
    (counterpart,) = read_synthetic(samples, Manifest.read(run / "run" / "prepared"))
    assert counterpart.id == "10795_1000811-s000"
    assert counterpart.label == "positive"
    assert counterpart.extra["predicted_label"] in ("negative", "positive")
    assert counterpart.extra["prompt_sha256"] == sha256_file(REPORTS / CASES["10795_1000811"])
    image = nib.load(samples / counterpart.images["t2w"])
    assert image.shape == (64, 64, 32)
    assert image.header.get_zooms() == pytest.approx(prepared(run)[0][1].header.get_zooms())
    assert np.unique(np.asarray(image.dataobj)).size > 100
    recipe = load_recipe(run / "run" / "recipe.yaml")
    assert recipe.sample.int16_scale == 962  # the paper's, of T2
    # The picture's brightest pixel is the brightest voxel of the three mid-slices.
    voxels = image.get_fdata()
    middles = (voxels[32], voxels[:, 32], voxels[:, :, 16])
    brightest = max(plane.max() for plane in middles)
    assert np.asarray(Image.open(samples / "montage.png")).max() == pytest.approx(
        255 * brightest / recipe.sample.int16_scale, abs=2
    )
