"""Tiles in colour, images of two axes without millimetres, from a table to the page."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tile_data import tile, tiles_table
from tiny_prepare import recipe as prepare_recipe
from tiny_run import REPOSITORY

from voxella import Generator
from voxella.case import Manifest
from voxella.check.stage import check
from voxella.cli import main
from voxella.errors import UserError
from voxella.imaging.volume import read_image
from voxella.preparation.stage import prepare
from voxella.recipe.inputs import Intensity, Prepare
from voxella.sampling.space import Scans, placed
from voxella.workspace.folders import Folders

RECIPE = str(REPOSITORY / "recipes" / "tiles" / "base.yaml")
SMOKE = ["--profile", "smoke", "--profile", "smoke-tiles"]
TILE = {"tile": Intensity(rule="colour")}
WHOLE = {"crop_mm": [None, None], "size": [20, 20], "intensity": TILE}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiles")
    words = ["import", "table", str(tiles_table(folder / "raw")), "--out", str(folder / "dataset")]
    assert main([*words, "--set", "sequences=[tile]"]) == 0
    return folder / "dataset"


def shown(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows and columns of ``(C, R, A)`` as a viewer shows them."""
    return array.transpose(2, 1, 0)[::-1, ::-1]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["maisi_unet", "dit3d"])
def test_tiles_run_from_a_table_to_the_page(
    backbone: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {
        "data.dataset": dataset,
        "backbone": f"{{name: {backbone}}}" if backbone == "dit3d" else None,
        "train.panel_every": 1,
        "train.panel_steps": 2,
        "sample.count": 3,
    }
    sets = [word for key, value in more.items() if value for word in ("--set", f"{key}={value}")]
    assert main(["run", RECIPE, *SMOKE, *sets, "--out", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path)]) == 0

    made = Manifest.read(tmp_path / "samples")
    assert len(made) == 3
    for case in made:
        path = made.image_path(case, "tile")
        assert path.suffix == ".png"
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("RGB", (16, 16))
            assert np.unique(np.asarray(picture)).size > 10
        beside = json.loads((path.parent / f"{case.id}.json").read_text())["case"]["extra"]
        assert beside["synthetic"] is True
        assert (
            beside["model"]
            == json.loads((tmp_path / "model/config.json").read_text())["weights_sha256"]
        )
        assert "spacing_mm" not in beside

    (image,) = Generator.open(tmp_path).generate(label="positive", seed=3, name="one")
    assert (image.array.shape, image.sequences, image.spacing_mm) == ((3, 16, 16), ("tile",), None)
    assert image.provenance["spacing_mm"] is None
    path, facts = image.save(tmp_path / "one")
    assert (path.name, facts.name) == ("one-s000_tile.png", "one-s000.json")
    with Image.open(path) as picture:
        expected = np.rint(shown(image.array) * np.float64(255))
        np.testing.assert_array_equal(np.asarray(picture), expected)
    (told,) = Generator.open(tmp_path).generate(spacing_mm=[0.5, 0.5], name="told")
    path, _ = told.save(tmp_path / "one")
    assert path.name == "told-s000_tile.nii.gz"
    np.testing.assert_allclose(read_image(path).first.spacing_mm[:2], 0.5)

    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert metrics["metrics"]["kid"]["value"] is not None
    assert metrics["metrics"]["fid_3d"]["note"] == "the images are single slices"
    assert [n["name"] for n in metrics["networks"]] == ["random-seed0-colour-axial"]
    # Black and violet, not black and white: the pictures are in colours.
    for name in ("samples/montage.png", "autoencoder/reconstruction.png"):
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture)
        assert pixels.ndim == 3
        assert (pixels[..., 0] != pixels[..., 1]).any()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "train"), {"images": 0})
    events.Reload()
    panel = events.Images("panel/0")[-1]
    assert (panel.height, panel.width) == (16, 16)
    page = (tmp_path / "report.html").read_text()
    found = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", page)
    shows = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]
    assert len(shows) > 4
    # Of the images, the panels, the autoencoder's picture and the copies': none lost its colours.
    assert all(one.ndim == 3 and np.ptp(one.astype(int), axis=2).max() > 30 for one in shows)


def test_a_tile_is_prepared_to_the_last_bit(dataset: Path, tmp_path: Path) -> None:
    """Cut without resampling: what Pillow wrote, over 255."""
    cut = prepare_recipe(
        ("tile",), **{**WHOLE, "crop_voxels": [12, 16], "size": [12, 16], "intensity": TILE}
    )
    manifest = prepare(cut, dataset, tmp_path, workers=1)
    case = next(case for case in manifest if case.id == "t05")
    image = read_image(manifest.image_path(case, "tile"))
    expected = tile(5)[2:18, 4:16].astype(np.float64) / 255
    np.testing.assert_allclose(shown(image.array[..., 0]), expected, atol=1e-7)
    assert "spacing_mm" not in case.extra
    assert case.extra["padded_voxels"] == [0.0, 0.0]
    wide = prepare_recipe(("tile",), **{**WHOLE, "crop_voxels": [24, 20], "size": [24, 20]})
    padded = prepare(wide, dataset, tmp_path / "wide", workers=1).cases[0]
    assert padded.extra["padded_voxels"] == [4.0, 0.0]


@pytest.mark.parametrize("interpolation", ["lanczos", "linear", "bspline"])
def test_a_tile_is_put_back_to_where_it_was_cut(
    interpolation: Literal["lanczos", "linear", "bspline"], dataset: Path, tmp_path: Path
) -> None:
    """With sample.space=source: every pixel in its place, 0 outside the crop."""
    cut = prepare_recipe(("tile",), **{**WHOLE, "crop_voxels": [12, 16], "size": [12, 16]})
    manifest = prepare(cut, dataset, tmp_path / "prepared", workers=1)
    case = next(case for case in manifest if case.id == "t05")
    channels = read_image(manifest.image_path(case, "tile")).array[..., 0]
    scans = Scans(Folders.of(tmp_path, None, dataset))
    back = np.stack([placed(one, case, "tile", scans, interpolation)[0] for one in channels])
    expected = np.zeros((20, 20, 3))
    expected[2:18, 4:16] = tile(5)[2:18, 4:16] / 255
    np.testing.assert_allclose(shown(back), expected, atol=1e-5)


def test_a_tile_is_shrunk_as_simpleitk_would(dataset: Path, tmp_path: Path) -> None:
    settings = {**WHOLE, "size": [10, 10], "interpolation": "linear"}
    manifest = prepare(prepare_recipe(("tile",), **settings), dataset, tmp_path, workers=1)
    image = read_image(manifest.image_path(manifest.cases[3], "tile"))
    # Halved by linear interpolation, each pixel is the mean of four.
    expected = tile(3).reshape(10, 2, 10, 2, 3).mean(axis=(1, 3)) / 255
    np.testing.assert_allclose(shown(image.array[..., 0]), expected, atol=1e-6)


def test_what_a_recipe_wants_decides_what_is_an_error(dataset: Path, tmp_path: Path) -> None:
    def codes(folder: Path, **settings: object) -> set[str]:
        asked = prepare_recipe(("tile",), **settings)
        found = check(folder, asked, out=tmp_path / "check", workers=1, quiet=True)
        return {f.code for f in found.findings if f.severity == "error"}

    assert codes(dataset, **WHOLE) == set()
    assert codes(dataset, **{**WHOLE, "intensity": {}}) == {"image.colour"}
    assert codes(dataset, **{**WHOLE, "crop_mm": [5.0, None]}) == {"geometry.no-spacing"}
    assert codes(dataset, **{**WHOLE, "crop_mm": [None] * 3, "size": [20, 20, 1]}) == {
        "geometry.slices"
    }
    # Without a recipe a picture may be either.
    found = check(dataset, None, out=tmp_path / "check", workers=1, quiet=True)
    assert {f.code for f in found.findings if f.severity == "error"} == set()
    grey = tmp_path / "grey"
    cases = []
    for case in Manifest.read(dataset).cases[:2]:
        path = grey / f"{case.id}.png"
        path.parent.mkdir(exist_ok=True)
        with Image.open(Manifest.read(dataset).image_path(case, "tile")) as picture:
            picture.convert("L").save(path)
        cases.append(case.model_copy(update={"images": {"tile": str(path)}}))
    Manifest(grey, cases).write()
    assert codes(grey, **WHOLE) == {"image.grey"}
    with pytest.raises(UserError, match=r"image\.grey"):
        prepare(prepare_recipe(("tile",), **WHOLE), grey, tmp_path / "out", workers=1)
    kept = prepare_recipe(("tile",), **{**WHOLE, "intensity": {"tile": Intensity(rule="none")}})
    made = prepare(kept, grey, tmp_path / "kept", workers=1)
    with Image.open(grey / f"{cases[1].id}.png") as picture:
        expected = np.asarray(picture) / 255
    array = read_image(made.image_path(made.cases[1], "tile")).array[..., 0]
    np.testing.assert_allclose(shown(array)[..., 0], expected, atol=1e-7)


def test_values_that_leave_the_scale_are_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((8, 8, 1), 1.5, np.float32), np.eye(4)), tmp_path / "a.nii")
    line = {"id": "a", "patient": "a", "images": {"tile": "a.nii"}}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    array = np.linspace(0, 1.5, 64, dtype=np.float32).reshape(8, 8, 1)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    kept = prepare_recipe(
        ("tile",), crop_mm=[None] * 2, size=[8, 8], intensity={"tile": Intensity(rule="none")}
    )
    with pytest.raises(UserError, match=r"0 to 1\.5\) leave 0 to 1.*image\.units"):
        prepare(kept, tmp_path, tmp_path / "out", workers=1)


def test_a_spacing_that_nobody_knows_cannot_be_asked_for(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is prepared, with the setting that helps, by the check as by the run."""
    own = ["--set", f"data.dataset={dataset}"]
    asked = ["--set", "vectors=[{name: class, scale: 100}, {name: spacing, scale: 100}]"]
    assert main(["run", RECIPE, *SMOKE, *own, *asked, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "12 of 12 cases" in said
    assert "do not say how large a pixel is" in said
    assert '--set "vectors=[{name: class, scale: 100}]"' in said
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "prepared").exists()
    words = ["check", str(dataset), "--recipe", RECIPE, *SMOKE, "--out", str(tmp_path / "check")]
    assert main([*words, *asked]) == 2
    found = json.loads((tmp_path / "check" / "check.json").read_text())["findings"]
    assert {f["code"] for f in found if f["severity"] == "error"} == {"condition.spacing"}
    assert main(words) == 0


def test_after_an_import_of_pictures_a_recipe_for_them_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", "table", str(tiles_table(tmp_path / "raw")), "--out", str(tmp_path / "ds")]
    assert main([*words, "--set", "sequences=[tile]"]) == 0
    then = f"then: voxella run recipes/tiles/base.yaml --dataset {tmp_path / 'ds'}"
    assert then in capsys.readouterr().out


def test_a_crop_beyond_a_picture_is_told_in_pixels(dataset: Path, tmp_path: Path) -> None:
    asked = prepare_recipe(("tile",), **{**WHOLE, "crop_voxels": [24, None]})
    found = check(dataset, asked, out=tmp_path / "check", workers=1, quiet=True).findings
    told = [f for f in found if f.code == "geometry.field-of-view"]
    assert len(told) == 12
    assert {f.message for f in told} == {"20 of 24 pixels along R"}
    inside = prepare_recipe(("tile",), **{**WHOLE, "crop_voxels": [20, None]})
    found = check(dataset, inside, out=tmp_path / "check", workers=1, quiet=True).findings
    assert not [f for f in found if f.code == "geometry.field-of-view"]


def test_keys_that_are_not_set_change_no_hash() -> None:
    """What was prepared before these keys were there is still known by its settings."""
    plain = Prepare().model_dump(mode="json")
    assert "crop_voxels" not in plain
    assert plain["intensity"] == {"adc": {"percentiles": None, "window": [0.0, 3000.0]}}
    told = Prepare(crop_voxels=[8, None], intensity=TILE).model_dump(mode="json")
    assert told["crop_voxels"] == [8, None]
    assert told["intensity"]["tile"]["rule"] == "colour"
    assert Prepare.model_validate(told).channels_of("tile") == 3
    for wrong in ({}, {"rule": "colour", "window": (0, 1)}):
        with pytest.raises(ValueError, match="exactly one of percentiles, window and rule"):
            Intensity.model_validate(wrong)
