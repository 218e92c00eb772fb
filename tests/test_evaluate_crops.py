"""A model that sees crops is held against the middles of the prepared images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_bench import Hospital, anatomy, synthetic

from voxella.case import Manifest
from voxella.check.synthetic_sets import check_samples
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.sets import read_sets
from voxella.evaluation.stage import evaluate
from voxella.evaluation.volumes import read_subject

CROP = ("latent.source=online", "latent.crop=[8,8,8]", "latent.size=[2,2,2]")
MIDDLE = (slice(4, 12),) * 3


def test_middles_are_compared(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "hospital", train=6, test=2, val=0)
    recipe = hospital.recipe(*CROP)
    samples = synthetic(
        hospital,
        tmp_path / "run" / "samples",
        hospital.cases("train"),
        make=lambda case: anatomy(int(case.id[-2:]))[MIDDLE],
    )
    prepared = Manifest.read(hospital.prepared)
    sets = read_sets(SetSettings.of(recipe), prepared, samples)
    for real, made in zip(sets.real, sets.synthetic, strict=True):
        expected = anatomy(int(real.id[-2:]))[MIDDLE]
        np.testing.assert_array_equal(read_subject(real)[0].numpy(), expected)
        np.testing.assert_allclose(read_subject(made)[0].numpy(), expected, atol=1e-3)
    whole = read_sets(SetSettings.of(hospital.recipe()), prepared, samples)
    assert whole.real[0].content != sets.real[0].content, "kept features are of other voxels"
    asked = recipe.data.sequences, recipe.prepare, samples
    check_samples(*asked, on_grid=True, crop=recipe.latent.crop)
    with pytest.raises(UserError, match="8 x 8 x 8 voxels, where 16 x 16 x 16 are compared"):
        check_samples(*asked, on_grid=True)
    evaluate(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "evaluation" / "metrics.json").is_file()


def test_whole_images_are_no_crops(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "hospital", train=4, test=2, val=0)
    synthetic(hospital, tmp_path / "run" / "samples", hospital.cases("train"))
    with pytest.raises(UserError, match="16 x 16 x 16 voxels, where 8 x 8 x 8 are compared"):
        evaluate(hospital.recipe(*CROP), tmp_path / "run")
