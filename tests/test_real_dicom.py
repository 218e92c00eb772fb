"""A scanner's own files, all the way: DICOM, import, check, prepare, encode, train."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread
from tiny_run import REPOSITORY

import voxella
from voxella.cache.latents import LatentCache
from voxella.case import Manifest
from voxella.check.stage import check
from voxella.cli import main

DATA = REPOSITORY.parent / "shared" / "data" / "prostatex_dicom"
STUDY = DATA / "ProstateX-0000"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not STUDY.is_dir(), reason=f"no real data: {STUDY} is absent"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every stage by its command; a few steps for hundreds."""
    before = signal.getsignal(signal.SIGTERM)
    folder = tmp_path_factory.mktemp("dicom")
    dataset = str(folder / "dataset")
    alone = ["--set", "val_share=0", "--set", "test_share=0"]
    assert main(["import", "dicom", str(STUDY), "--out", dataset, *alone]) == 0
    assert main(["check", dataset, "--json", "--workers", "1"]) == 0
    few = ["autoencoder_training.steps=2", "train.steps=2", "deepspeed.train_batch_size=1"]
    words = [
        # The study has neither label nor report: a recipe that learns from them is refused.
        *(str(REPOSITORY / "recipes" / "base.yaml"), "--profile", "two-cores"),
        *("--dataset", dataset, "--out", str(folder / "run"), "--workers", "1"),
        *(word for value in few for word in ("--set", value)),
    ]
    for stage in ("prepare", "train-autoencoder", "encode", "train"):
        assert main([stage, *words]) == 0
    yield folder
    signal.signal(signal.SIGTERM, before)


def test_the_prepared_voxels_are_the_scanners(run: Path) -> None:
    (case,) = Manifest.read(run / "dataset")
    prepared = Manifest.read(run / "run" / "prepared")
    ours = sitk.ReadImage(str(prepared.image_path(prepared.cases[0], "t2w")), sitk.sitkFloat32)
    # The axial T2 of the study, read by SimpleITK straight from the scanner's files.
    folders = {path.parent: path for path in STUDY.rglob("*.dcm")}
    (folder,) = [
        folder
        for folder, path in folders.items()
        if dcmread(path, stop_before_pixels=True).SeriesDescription == "t2_tse_tra"
    ]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    scan = sitk.Cast(reader.Execute(), sitk.sitkFloat32)
    theirs = sitk.GetArrayFromImage(sitk.Resample(scan, ours, sitk.Transform(), sitk.sitkLinear))
    inside = theirs.max(axis=(1, 2)) > 0
    found = sitk.GetArrayFromImage(ours)[inside].ravel()
    assert inside.sum() >= 16
    assert np.corrcoef(found, theirs[inside].ravel())[0, 1] > 0.97
    assert case.label is None


def test_the_check_names_what_is_missing_and_no_error(run: Path) -> None:
    report = check(run / "dataset", workers=1, quiet=True)
    assert report.counts["error"] == 0
    codes = {finding.code for finding in report.findings}
    assert {"label.missing", "report.none"} & codes


def test_it_is_encoded_and_trained_on(run: Path) -> None:
    cache = LatentCache.open(run / "run" / "latents")
    (case,) = Manifest.read(run / "dataset")
    assert cache.ids == (case.id,)
    mean, log_sigma = cache.read(case.id)
    assert bool(mean.isfinite().all() and log_sigma.isfinite().all())
    log = (run / "run" / "train" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log][-1] == 2
    assert sum(p.numel() for p in voxella.load_model(run / "run" / "model").parameters()) > 0
