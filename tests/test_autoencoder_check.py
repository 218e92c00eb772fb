"""The check of an autoencoder: its numbers against numpy, its verdict, and what follows from it."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from tiny_autoencoder import CPU, make_prepared, recipe, volumes_of
from tiny_run import REPOSITORY

from voxella.autoencoder.check import check_autoencoder, require_trusted
from voxella.autoencoder.latent_report import report_latents
from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.losses import kl_per_voxel
from voxella.autoencoder.measure import CaseMeasure, measure_cases
from voxella.autoencoder.table import show_check
from voxella.case import Manifest
from voxella.cli import main
from voxella.errors import UserError
from voxella.recipe.autoencoder import AutoencoderCheck
from voxella.recipe.model import PaperRow, Recipe

NOTHING: dict[str, Any] = {"psnr_db": None, "ssim": None}


@pytest.fixture(autouse=True)
def _plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXELLA_PLUGINS", "autoencoders:offset=tiny_autoencoder:offset")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("prepared"), splits="ttvvve")


def check(subject: Recipe, prepared: Path, folder: Path) -> dict[str, Any]:
    found = check_autoencoder(subject, prepared, folder, device="cpu")
    assert found is not None
    return found


def wanted(offset: float = 0.05, **asked: Any) -> Recipe:
    return recipe(
        autoencoder={"name": "offset", "offset": offset},
        autoencoder_training=None,
        autoencoder_check=NOTHING | asked,
    )


def originals(prepared: Path) -> dict[str, NDArray[np.float64]]:
    volumes = volumes_of(prepared)
    return {name: volumes.read(name).double().numpy() for name in ("c2", "c3", "c4")}


def test_reconstruction_is_measured_as_numpy_does(prepared: Path, tmp_path: Path) -> None:
    found = check(wanted(), prepared, tmp_path)
    images = originals(prepared)
    errors = {c: np.abs(np.clip(image + 0.05, 0, 1) - image) for c, image in images.items()}
    measured = found["reconstruction"]
    assert (measured["split"], measured["n"]) == ("val", 3)
    for case_id, error in errors.items():
        row = measured["by_case"][case_id]
        assert row["psnr_db"] == pytest.approx(-10 * math.log10((error**2).mean()), abs=1e-3)
        assert row["mae"] == pytest.approx(error.mean(), rel=1e-4)
        assert row["mse_255"] == pytest.approx(((255 * error) ** 2).mean(), rel=1e-4)
    ends = {"psnr_db": ("lowest", min), "ssim": ("lowest", min), "mae": ("highest", max)}
    ends["mse_255"] = ("highest", max)
    for name, (end, pick) in ends.items():
        values = [row[name] for row in measured["by_case"].values()]
        assert measured[name] == pytest.approx(np.mean(values))
        assert measured[f"{name}_{end}"] == pick(values)

    image, error = (np.stack([part[c] for c in images]) for part in (images, errors))
    limits = [(0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)]
    assert [(band["from"], band["to"]) for band in measured["bands"]] == limits
    for band, (low, high) in zip(measured["bands"], limits, strict=True):
        inside = (image >= low) & (image < (high if high < 1 else 2))
        assert band["share"] == pytest.approx(inside.mean())
        assert band["mae"] == pytest.approx(error[inside].mean(), rel=1e-4)


def test_latents_are_described_as_numpy_does(prepared: Path, tmp_path: Path) -> None:
    found = check(wanted(), prepared, tmp_path)["latents"]
    image = np.stack(list(originals(prepared).values()))
    noise = math.exp(-4.0)
    variance = image.var() + noise
    assert found["channel_mean"] == pytest.approx([image.mean(), 0], abs=1e-6)
    assert found["channel_std"] == pytest.approx([math.sqrt(variance), 1])
    assert found["channel_noise_share"] == pytest.approx([noise / variance, 1])
    kl = 0.5 * ((image**2).mean() + noise - 1 + 4)
    assert found["channel_kl"] == pytest.approx([kl, 0], abs=1e-9)
    assert found["dead_channels"] == [1]
    pooled = np.concatenate([image.ravel(), np.zeros(image.size)])
    assert found["std"] == pytest.approx(math.sqrt(pooled.var() + (noise + 1) / 2))


def test_kl_is_what_training_weighs(prepared: Path) -> None:
    model = load_autoencoder(AutoencoderPlan.of(wanted())).model
    volumes = volumes_of(prepared)
    measures = list(measure_cases(model, volumes, ["c2", "c3"], device=CPU, bands=[0.5]))
    by_case = [
        float(kl_per_voxel(m.mean[None], m.log_sigma[None]))
        for m in measures
        if m.log_sigma is not None
    ]
    assert report_latents(measures).kl == pytest.approx(np.mean(by_case), rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "trusted", "told"),
    [
        ({}, None, "asks for nothing"),
        ({"psnr_db": 25.9, "ssim": 0.5}, True, "trusted. PSNR in dB"),
        ({"psnr_db": 40.0, "ssim": 0.5}, False, "NOT TRUSTED: PSNR in dB"),
        ({"ssim": 1.0}, False, "NOT TRUSTED: SSIM"),
        ({"mae": 0.051}, True, "trusted. MAE"),
        ({"mae": 0.04}, False, "NOT TRUSTED: MAE 0.04"),
        ({"band_mae": 0.0501}, True, "trusted. MAE of the worst band 0.05,"),
        ({"band_mae": 0.0499}, False, "NOT TRUSTED: MAE of the worst band 0.05,"),
        ({"dead_channels": 1}, True, "trusted. dead latent channels 1"),
        ({"dead_channels": 0}, False, "NOT TRUSTED: dead latent channels 1, asked for at most 0"),
    ],
)
def test_the_verdict(
    asked: dict[str, Any],
    trusted: bool | None,
    told: str,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = check(wanted(**asked), prepared, tmp_path)
    assert found["trusted"] is trusted
    assert told in capsys.readouterr().out
    assert json.loads((tmp_path / "check.json").read_text())["trusted"] is trusted
    if trusted is False:
        with pytest.raises(UserError, match="the autoencoder is not trusted: "):
            require_trusted(tmp_path)
    else:
        require_trusted(tmp_path)


def test_stop_refuses_and_names_all_that_failed(prepared: Path, tmp_path: Path) -> None:
    strict = wanted(psnr_db=40.0, mae=0.01, ssim=0.1, on_failure="stop")
    with pytest.raises(UserError) as caught:
        check(strict, prepared, tmp_path)
    said = str(caught.value)
    assert "PSNR in dB 26" in said
    assert "asked for at least 40" in said
    assert "MAE 0.04" in said
    assert "SSIM" not in said
    assert (tmp_path / "check.png").is_file()


def test_what_is_checked_is_not_measured_again(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ran(subject: Recipe) -> bool:
        check(subject, prepared, tmp_path)
        return "reconstruct 3/3" in capsys.readouterr().out

    assert ran(wanted(psnr_db=30.0))
    assert not ran(wanted(psnr_db=30.0))
    assert ran(wanted(psnr_db=10.0)), "other questions"
    assert ran(wanted(0.1, psnr_db=10.0)), "another autoencoder"


@pytest.mark.parametrize("phantoms", [None, "phantom", "phantom_he"])
def test_the_papers_numbers_stand_beside_ours_but_not_beside_phantoms(
    phantoms: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_prepared(tmp_path / "prepared", splits="ttvv")
    if phantoms:
        cases = [c.model_copy(update={"label_source": phantoms}) for c in Manifest.read(data)]
        Manifest(data, cases).write()
    row = {"model": "VQ-f4", "reconstruction_ssim": 0.961, "reconstruction_mse": 11.503}
    subject = wanted().model_copy(update={"paper": PaperRow.model_validate(row)})
    found = check(subject, data, tmp_path)
    beside = {"model": "VQ-f4", "ssim": 0.961, "mse_255": 11.503}
    assert found.get("paper") == (None if phantoms else beside)
    capsys.readouterr()
    show_check(tmp_path)
    shown = capsys.readouterr().out
    assert ("11.503" in shown, "VQ-f4" in shown) == (not phantoms, not phantoms)
    assert "MSE of 0 to 255" in shown
    # A row without such numbers says nothing here, and another row is measured beside anew.
    other = wanted().model_copy(update={"paper": PaperRow(model="PathLDM", fid=7.64)})
    assert "paper" not in check(other, data, tmp_path)


def test_an_exact_reconstruction_is_trusted_and_json(prepared: Path, tmp_path: Path) -> None:
    found = check(wanted(0.0, psnr_db=60.0, mae=0.0), prepared, tmp_path)
    assert found["trusted"] is True

    def refuse(name: str) -> None:
        raise AssertionError(name)

    text = (tmp_path / "check.json").read_text()
    # Infinity is no JSON.
    read = json.loads(text, parse_constant=refuse)
    assert read["reconstruction"]["psnr_db"] is None


def test_a_reconstruction_that_is_not_finite_names_the_case(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="case c2: its reconstruction is not finite"):
        check(wanted(math.nan), prepared, tmp_path)
    assert not (tmp_path / "check.json").exists()


def test_the_picture_shows_worst_median_and_best(prepared: Path, tmp_path: Path) -> None:
    check(wanted(0.25), prepared, tmp_path)
    picture = np.asarray(Image.open(tmp_path / "check.png"))
    # Three columns of three planes of 128 pixels; three rows with captions of 12.
    column = 3 * 128 + 2 * 2
    assert picture.shape == (3 * (12 + 128) + 2 * 2, 3 * column + 2 * 2)
    # The lower left corner is dark ground, reconstructed a quarter brighter: an error in white.
    original, reconstruction, error = (int(picture[row, 0]) for row in (139, 281, 423))
    assert original < 5
    assert reconstruction == pytest.approx(original + 255 / 4, abs=1)
    assert error == 255


def test_without_val_the_training_split_is_measured(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "prepared", splits="tte")
    found = check(wanted(), prepared, tmp_path)
    assert found["reconstruction"]["split"] == "train"
    assert set(found["reconstruction"]["by_case"]) == {"c0", "c1"}


def test_test_cases_alone_are_not_looked_at(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path / "prepared", splits="ee")
    (tmp_path / "check.json").write_text('{"key": "of other data", "trusted": true}')
    assert check_autoencoder(wanted(), prepared, tmp_path, device="cpu") is None
    with pytest.raises(UserError, match="the autoencoder was not checked"):
        show_check(tmp_path)


def test_fewer_cases_are_spread_over_the_split(prepared: Path, tmp_path: Path) -> None:
    found = check(wanted(cases=2), prepared, tmp_path)
    assert set(found["reconstruction"]["by_case"]) == {"c2", "c4"}


def test_a_channel_that_never_changes_is_dead() -> None:
    mean = torch.stack([torch.randn(4, 4), torch.full((4, 4), 3.0)])
    log_sigma = torch.stack([torch.full((4, 4), -3.0), torch.full((4, 4), -30.0)])
    found = report_latents([CaseMeasure("c", 0, 0, 0, 0, (), (), mean, log_sigma)])
    assert found.dead == (1,)


@pytest.mark.parametrize("bands", [[0.3, 0.1], [0.0, 0.5], [0.5, 1.0], [0.2, 0.2]])
def test_bands_have_to_rise_between_0_and_1(bands: list[float]) -> None:
    with pytest.raises(ValidationError, match="do not rise from 0 to 1"):
        AutoencoderCheck(bands=bands)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bands_are_numbers(value: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        AutoencoderCheck(bands=[0.1, value])


@pytest.fixture
def _keep_signals() -> Iterator[None]:
    """The command line takes SIGTERM over; give it back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_keep_signals")
def test_the_verb_shows_the_numbers_and_exits_by_the_verdict(
    smoke_workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file = str(REPOSITORY / "recipes" / "ccella.yaml")
    layers = [recipe_file, "--profile", "smoke", "--workspace", str(smoke_workspace)]
    layers += ["--out", str(tmp_path)]

    def run(verb: str, *more: str) -> tuple[int, str, str]:
        code = main([verb, *layers, *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    strict = ["--set", "autoencoder_check={psnr_db: 99, ssim: null}"]
    # Stopping is for runs: the verb shows its tables first.
    code, out, err = run("check-autoencoder", *strict, "--set", "autoencoder_check.on_failure=stop")
    assert code == 2
    assert "not trusted: PSNR in dB" in err
    assert "next:     look at" in err
    assert "at least 99" in out
    assert "NOT MET" in out
    assert "noise share" in out

    code, out, err = run(
        "check-autoencoder", "--set", "autoencoder_check={psnr_db: 1, ssim: null}", "--cases", "1"
    )
    assert (code, err) == (0, "")
    assert "reconstruction of 1 " in out

    code, out, err = run("encode", *strict)
    assert code == 0
    assert "WARNING: the autoencoder is NOT TRUSTED: PSNR in dB" in out
    code, out, err = run("encode", *strict, "--set", "autoencoder_check.on_failure=stop")
    assert code == 2
    assert "not trusted: PSNR in dB" in err
    assert "== encode" not in out
