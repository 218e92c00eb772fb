"""Post-hoc EMA: profiles against integrals, mixtures against averages that were really kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import integrate
from tiny_run import encoded_run, tiny_recipe
from torch import Tensor, nn

from voxella.cli import main
from voxella.engine.ema import Ema
from voxella.errors import UserError
from voxella.ldm.export import load_facts, load_model
from voxella.ldm.snapshots.profiles import Profile, exponent, mixture, relative_width
from voxella.ldm.snapshots.store import kept, reconstruct, snapshot_path
from voxella.ldm.snapshots.tracked import TrackedEma
from voxella.ldm.train import train
from voxella.weights import write_state_dict

WIDTHS = (0.05, 0.1)
SNAPSHOTS = "train.snapshots={every: 2, sigma_rel: [0.05, 0.1]}"


class Whole:
    """Float32 weights as they are: one process, stage 0."""

    def part(self, parameter: nn.Parameter) -> Tensor:
        return parameter.data

    def whole(self, parameter: nn.Parameter) -> Tensor:
        return parameter.data


def test_exponents_are_the_papers() -> None:
    """Their section 3.1: gamma of 16.97 and 6.94 for 5 % and 10 %; and the definition, a moment."""
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.1) == pytest.approx(6.94, abs=0.005)
    for gamma in (0.0, 0.7, 6.94, 40.0):
        moments = [integrate.quad(pow, 0, 1, args=(gamma + k,))[0] for k in (0, 1, 2)]
        mean, square = moments[1] / moments[0], moments[2] / moments[0]
        assert relative_width(gamma) == pytest.approx((square - mean**2) ** 0.5, rel=1e-6)
        assert exponent(relative_width(gamma)) == pytest.approx(gamma, abs=1e-6)
    with pytest.raises(ValueError, match=r"received 0\.3; expected: above 0, at most 0\.2887"):
        exponent(0.3)


@pytest.mark.parametrize("wanted", [Profile(40, 0.05), Profile(20, 0.1)])
def test_a_profile_that_is_kept_is_itself(wanted: Profile) -> None:
    kept_ones = [Profile(t, width) for t in (10, 20, 30, 40) for width in WIDTHS]
    factors = mixture(kept_ones, wanted)
    expected = [float(one == wanted) for one in kept_ones]
    np.testing.assert_allclose(factors, expected, atol=1e-6)


def test_mixtures_are_least_squares_of_the_profiles_themselves() -> None:
    """Against numpy on profiles written out on a fine grid of time."""
    kept_ones = [Profile(t, width) for t in (25, 50, 75, 100) for width in WIDTHS]
    wanted = Profile(100, 0.15)
    times = (np.arange(200_000) + 0.5) / 200_000 * 100

    def written_out(one: Profile) -> Any:
        gamma = exponent(one.sigma_rel)
        density = (gamma + 1) / one.time * (times / one.time) ** gamma
        return np.where(times <= one.time, density, 0.0)

    table = np.stack([written_out(one) for one in kept_ones], axis=1)
    expected, *_ = np.linalg.lstsq(table, written_out(wanted), rcond=None)
    np.testing.assert_allclose(mixture(kept_ones, wanted), expected, rtol=1e-3, atol=1e-3)


def walked(folder: Path, steps: int, every: int, widths: tuple[float, ...]) -> TrackedEma:
    """Train a layer of which one weight never moves, by a random walk that comes to rest."""
    module = nn.Linear(6, 3)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        module.weight.copy_(torch.randn(3, 6, generator=generator))
        module.bias.fill_(0.7)

    def write(profile: Profile, state: Any) -> None:
        write_state_dict(snapshot_path(folder, profile), state)

    masters: Any = Whole()
    average = TrackedEma(module, masters, 0.999, widths=widths, every=every, keep=True, write=write)
    for step in range(steps):
        with torch.no_grad():
            move = torch.randn(3, 6, generator=generator)
            module.weight.add_(move, alpha=0.3 * (1 - step / steps))
        average.update()
    return average


def test_averages_are_reconstructed_from_snapshots(tmp_path: Path) -> None:
    walked(tmp_path / "kept", 400, 25, WIDTHS)
    # The same walk, with the averages that are to be reconstructed kept as well.
    others = (0.07, 0.15, 0.2)
    walked(tmp_path / "really", 400, 100, (*WIDTHS, *others))
    for width in WIDTHS:  # kept ones: exact
        for time in (400, 200):
            path = snapshot_path(tmp_path / "really", Profile(time, width))
            made = reconstruct(tmp_path / "kept", Profile(time, width))
            torch.testing.assert_close(made["weight"], load_file(path)["weight"], atol=1e-5, rtol=0)
    narrow = reconstruct(tmp_path / "kept", Profile(400, 0.05))["weight"]
    for width in others:  # others: close, far closer than the nearest kept one is
        truth = load_file(snapshot_path(tmp_path / "really", Profile(400, width)))["weight"]
        made = reconstruct(tmp_path / "kept", Profile(400, width))
        error = float((made["weight"] - truth).norm())
        assert error < 0.05 * float((narrow - truth).norm()), width
        # What never moved stays as it is, to the last bit.
        assert made["bias"].tolist() == torch.full((3,), 0.7).tolist()


def test_the_exported_average_is_not_touched_and_state_goes_on(tmp_path: Path) -> None:
    tracked = walked(tmp_path, 60, 25, WIDTHS)
    plain = nn.Linear(6, 3)
    masters: Any = Whole()
    ema = Ema(plain, masters, 0.999)
    state = tracked.state_dict()
    ema.load_state_dict(state)
    for mine, theirs in zip(ema.shadow, tracked.shadow, strict=True):
        assert torch.equal(mine, theirs)
    again = walked(tmp_path, 1, 25, WIDTHS)
    again.load_state_dict(state)
    assert again.steps == 60
    profiles: Any = again.state_dict()["profiles"]
    known: Any = state["profiles"]
    for width in ("0.05", "0.1"):
        assert torch.equal(profiles[width]["weight"], known[width]["weight"])


def test_a_training_keeps_snapshots_and_ema_writes_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = tiny_recipe("train.steps=6", name="base")
    assert "snapshots" not in plain.fingerprint_data()["train"]
    recipe = tiny_recipe("train.steps=6", SNAPSHOTS, name="base")
    run = tmp_path / "run"
    encoded_run(recipe, run)
    assert train(recipe, run, stop_after=4) is None
    assert len(kept(run / "snapshots")) == 4
    assert train(recipe, run) == run / "model"
    assert kept(run / "snapshots") == [Profile(t, width) for t in (2, 4, 6) for width in WIDTHS]
    # Of a run that was not stopped they are the same, to the last bit.
    whole = tmp_path / "whole"
    encoded_run(recipe, whole)
    train(recipe, whole)
    for path in (run / "snapshots").iterdir():
        assert path.read_bytes() == (whole / "snapshots" / path.name).read_bytes(), path.name
    # A new length.
    out = tmp_path / "wide"
    assert main(["ema", str(run), "--sigma-rel", "0.05", "--step", "4", "--out", str(out)]) == 0
    assert load_facts(out).step == 4
    assert json.loads((out / "ema.json").read_text()) == {
        "sigma_rel": 0.05,
        "step": 4,
        "snapshots": [2, 2, 4, 4],
    }
    made = load_model(out).state_dict()
    truth = load_file(run / "snapshots" / "step-00000004_sigma-0.05.safetensors")
    for name, tensor in truth.items():
        torch.testing.assert_close(made[name], tensor, atol=1e-6, rtol=0, msg=name)
    # Mistakes are told.
    for words, told in (
        (["--sigma-rel", "0.4"], "received 0.4; expected: above 0, at most 0.2887"),
        (["--sigma-rel", "0.1", "--step", "9"], "received 9; expected: at most 6"),
        (["--sigma-rel", "0.1", "--step", "1"], "first snapshot is of step 2; received step 1"),
    ):
        capsys.readouterr()
        assert main(["ema", str(run), *words, "--out", str(tmp_path / "no")]) == 2
        assert told in capsys.readouterr().err


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no snapshots of weights"):
        kept(tmp_path)
    with pytest.raises(UserError, match="expected: an ema_decay"):
        tiny_recipe(SNAPSHOTS, "train.ema_decay=null", name="base")
