"""Maps of a quantity leave in their unit, and are read back as what the model made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from stacked_run import ADC_MOST, stacked_recipe, stacked_run

from voxella import Generator
from voxella.case import Manifest
from voxella.case_fields import stored_window
from voxella.check.synthetic_sets import refuse_unfit
from voxella.classification.store import read_image
from voxella.errors import UserError
from voxella.evaluation.compared_split import SetSettings
from voxella.evaluation.sets import read_sets
from voxella.evaluation.volumes import read_subject
from voxella.imaging.intensity import in_unit, normalise
from voxella.ldm.train import train
from voxella.recipe.inputs import Intensity, Prepare
from voxella.recipe.model import Recipe
from voxella.sampling.stage import sample
from voxella.workspace.folders import Folders

SETTINGS = ("sample.steps=2", "train.steps=2", "sample.count=2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantities")
    recipe, folders = stacked_run(folder, *SETTINGS)
    train(recipe, folders.run)
    return folder


def run_of(root: Path, *settings: str) -> tuple[Recipe, Folders]:
    recipe = stacked_recipe(root, *SETTINGS, *settings)
    return recipe, Folders.of(root / "run", recipe.workspace, recipe.data.dataset)


@pytest.mark.parametrize("window", [(0.0, 3000.0), (-1000.0, 400.0), (0.0, 1.5)])
def test_a_window_undone_is_the_quantity(window: tuple[float, float]) -> None:
    low, high = window
    values = np.random.default_rng(0).uniform(low, high, (5, 6)).astype(np.float32)
    scaled = normalise(values, window)
    back = in_unit(scaled, window)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, atol=1e-6 * (high - low))
    whole = in_unit(scaled, window, whole=True)
    if high - low < 256:
        assert whole.dtype == np.float32, "rounded to whole numbers little would be left of it"
    else:
        assert np.array_equal(whole, np.rint(back.astype(np.float64)).astype(np.int64))


def test_a_unit_needs_a_window() -> None:
    prepare = Prepare.model_validate({"intensity": {"ct": {"window": [-100, 300], "unit": "HU"}}})
    assert prepare.quantities(["t2w", "adc", "ct"]) == {
        "adc": {"window": [0.0, 3000.0], "unit": "1e-6 mm2/s"},
        "ct": {"window": [-100.0, 300.0], "unit": "HU"},
    }
    for rule in ({"percentiles": (1.0, 99.0)}, {"rule": "none"}):
        with pytest.raises(ValueError, match=r"differs by case: it cannot be undone; expected: a"):
            Intensity.model_validate({**rule, "unit": "HU"})
    untold = Prepare.model_validate({"intensity": {"hbv": {"window": [0, 500]}}})
    assert untold.quantities(["hbv"]) == {}
    assert "unit" not in Prepare().model_dump(mode="json")["intensity"]["adc"], "hashes stay"


@pytest.mark.parametrize("scale", [None, 500.0])
def test_synthetic_maps_leave_in_their_unit_and_come_back(root: Path, scale: float | None) -> None:
    told = "null" if scale is None else str(scale)
    recipe, folders = run_of(root, f"sample.int16_scale={told}")
    out = sample(recipe, folders.run)
    made = Manifest.read(out)
    case = next(iter(made))
    assert case.extra["intensity"] == {"adc": {"window": [0.0, ADC_MOST], "unit": "1e-6 mm2/s"}}
    assert stored_window(case.extra, "adc") == (0.0, ADC_MOST)
    assert stored_window(case.extra, "t2w") == (0.0, scale or 1.0)
    files: dict[str, Any] = {n: nib.load(made.image_path(case, n)) for n in ("t2w", "adc")}
    dtype = np.dtype(np.float32 if scale is None else np.int16)
    assert all(file.get_data_dtype() == dtype for file in files.values())
    stored = {name: np.asarray(file.dataobj, dtype=np.float64) for name, file in files.items()}

    # What every reader sees is in [0, 1] again.
    sets = read_sets(SetSettings.of(recipe), Manifest.read(folders.prepared), out)
    path = made.image_path(case, "t2w")
    subject = next(s for s in sets.generated if s.paths[0] == path)
    seen = read_subject(subject).numpy()
    np.testing.assert_allclose(seen[0], stored["t2w"] / (scale or 1.0), atol=1e-6)
    np.testing.assert_allclose(seen[1], stored["adc"] / ADC_MOST, atol=1e-6)
    assert 0 < seen[1].max() <= 1
    image, _ = read_image(made, case, ["t2w", "adc"], 3)
    np.testing.assert_allclose(image.numpy(), seen, atol=1e-6)
    refuse_unfit(["t2w", "adc"], made)


def test_the_generator_writes_them_in_their_unit_too(root: Path, tmp_path: Path) -> None:
    made = Generator.open(root / "run", settings=["sample.steps=2"]).generate()[0]
    quantity = made.quantity("adc")
    np.testing.assert_allclose(quantity, made.array[1:] * ADC_MOST, rtol=1e-5)
    assert np.array_equal(made.quantity("t2w"), made.array[:1])
    paths = {path.name: path for path in made.save(tmp_path)}
    written: Any = nib.load(paths["generated-s000_adc.nii.gz"])
    assert np.array_equal(np.asarray(written.dataobj), quantity[0])
    assert made.provenance["intensity"]["adc"]["unit"] == "1e-6 mm2/s"


@pytest.mark.parametrize("rule", [{"window": [3000, 0]}, {"window": [0, "a"]}, {}, [0, 1]])
def test_a_foreign_set_that_does_not_say_its_window_is_refused(root: Path, rule: Any) -> None:
    recipe, folders = run_of(root)
    made = Manifest.read(sample(recipe, folders.run))
    cases = [c.model_copy(update={"extra": {**c.extra, "intensity": {"adc": rule}}}) for c in made]
    with pytest.raises(UserError, match=r"extra\.intensity has no two rising numbers"):
        refuse_unfit(["t2w", "adc"], Manifest(made.folder, cases))


def test_without_a_unit_nothing_changes(root: Path) -> None:
    recipe, folders = run_of(root, "prepare.intensity.adc={percentiles: [0, 99.5], window: null}")
    made = Manifest.read(sample(recipe, folders.run))
    assert all("intensity" not in case.extra for case in made)
