"""What the autoencoder loses of real cases, as numbers of an evaluation, beside the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch
from monai.metrics.regression import MSEMetric, SSIMMetric
from torch import Tensor

from voxella.case import Case
from voxella.errors import UserError
from voxella.evaluation.metrics.reconstruction import reconstruction, spread
from voxella.metrics.declared.contract import Evaluated, Evidence
from voxella.metrics.declared.measured import Measured, NoNumberError
from voxella.metrics.declared.published import row_beside
from voxella.metrics.estimate import Estimate
from voxella.testing.metrics import SmallCase
from voxella.testing.runner import run_contract

ROW = {"model": "VQ-f4", "fid": 7.64, "reconstruction_ssim": 0.961, "reconstruction_mse": 11.503}


def case(number: int) -> SmallCase:
    name = f"c{number:02d}"
    return SmallCase(Case(id=name, group=f"s{number // 2}", images={"he": "i.png"}))


@dataclass
class Tiles:
    """Evidence of random tiles ``(3, 24, 24, 1)``, each a little off after the autoencoder."""

    real: list[SmallCase]
    seed: int = 0
    level: float = 0.95
    replicates: int = 50
    split: str = "test"
    seen: list[str] = field(default_factory=list)

    def image(self, one: SmallCase) -> Tensor:
        return torch.rand(3, 24, 24, 1, generator=torch.Generator().manual_seed(int(one.id[1:])))

    def reconstruction(self, one: SmallCase) -> Tensor:
        self.seen.append(one.id)
        generator = torch.Generator().manual_seed(100 + int(one.id[1:]))
        noise = torch.randn(3, 24, 24, 1, generator=generator)
        return (self.image(one) + 0.05 * noise).clamp(0, 1)


def test_it_holds_its_contract() -> None:
    results = list(run_contract("metrics", "reconstruction"))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 5


def test_numbers_are_monais() -> None:
    tiles = Tiles([case(number) for number in range(6)])
    found = reconstruction().measure(cast("Evidence", tiles))
    pairs = [
        (tiles.reconstruction(one)[None, ..., 0], tiles.image(one)[None, ..., 0])
        for one in tiles.real
    ]
    theirs = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=11, kernel_sigma=1.5)
    ssim = torch.stack([theirs(a, b).mean() for a, b in pairs]).mean()
    mse = torch.stack([MSEMetric()(255 * a, 255 * b).mean() for a, b in pairs]).mean()
    expected = {"reconstruction_ssim": float(ssim), "reconstruction_mse": float(mse)}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        estimate = found[key].estimate
        assert estimate.value == pytest.approx(value, rel=1e-4)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < value < estimate.high
        # Two tiles of a slide are drawn together.
        assert estimate.n == 3
        assert estimate.how.startswith("mean of 6 of 6 cases; ")


def test_some_cases_of_many_are_measured() -> None:
    tiles = Tiles([case(number) for number in range(9)])
    found = reconstruction(cases=3).measure(cast("Evidence", tiles))
    assert tiles.seen == ["c00", "c04", "c08"]
    assert found["reconstruction_mse"].estimate.how.startswith("mean of 3 of 9 cases; ")
    real = cast("list[Evaluated]", tiles.real)
    assert spread(real, 0) == tiles.real
    assert [one.id for one in spread(real, 1)] == ["c00"]
    with pytest.raises(UserError, match="-1 cases"):
        reconstruction(cases=-1)


def test_without_an_autoencoder_there_is_no_number_and_damage_is_no_reason() -> None:
    class Without(Tiles):
        def reconstruction(self, one: SmallCase) -> Tensor:
            raise UserError("the autoencoder has no weights", remedy="train it")

    class Damaged(Tiles):
        def image(self, one: SmallCase) -> Tensor:
            raise UserError("c00 cannot be read")

    with pytest.raises(NoNumberError, match="the autoencoder has no weights; train it"):
        reconstruction().measure(cast("Evidence", Without([case(0)])))
    with pytest.raises(UserError, match="cannot be read") as caught:
        reconstruction().measure(cast("Evidence", Damaged([case(0)])))
    assert not isinstance(caught.value, NoNumberError)


def test_cases_that_lack_a_sequence_are_left_out() -> None:
    lacks = SmallCase(case(1).case.model_copy(update={"images": {}}))
    tiles = Tiles([case(0), lacks, case(2)])
    found = reconstruction().measure(cast("Evidence", tiles))
    assert tiles.seen == ["c00", "c02"]
    assert found["reconstruction_ssim"].estimate.how.startswith("mean of 2 of 3 cases; ")


def measured(**numbers: float) -> dict[str, Measured]:
    return {k: Measured(Estimate(v, None, None, 9), "test") for k, v in numbers.items()}


@pytest.mark.parametrize(
    ("of", "networks", "split", "phantoms", "expected"),
    [
        ("both", [], "test", False, {"reconstruction_ssim", "reconstruction_mse"}),
        ("both", [False], "test", False, {"reconstruction_ssim", "reconstruction_mse"}),
        ("ssim", [], "test", False, {"reconstruction_ssim"}),
        ("none", [], "test", False, None),
        ("none", [True], "test", False, None),
        ("both", [], "train", False, None),
        ("both", [], "test", True, None),
    ],
)
def test_the_papers_numbers_may_stand_beside_ours(
    of: str, networks: list[bool], split: str, phantoms: bool, expected: set[str] | None
) -> None:
    ours: dict[str, Any] = {"reconstruction_ssim": 0.9, "reconstruction_mse": 20.0}
    kept = {"both": ours, "ssim": {"reconstruction_ssim": 0.9}, "none": {}}[of]
    row = row_beside(ROW, measured(**kept), networks, split=split, phantoms=phantoms)
    if expected is None:
        assert row is None
    else:
        assert row == {key: ROW[key] for key in ("model", *expected)}
