"""Which timesteps are trained: logit-normal against its closed form, the shift against MONAI's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler
from scipy import stats
from tiny_run import encoded_run, tiny_recipe

from voxella.cache.latents import LatentCache
from voxella.case import Manifest
from voxella.diffusion.names import TimestepDraw
from voxella.diffusion.timesteps import draw_timestep
from voxella.engine.order import SampleKey
from voxella.errors import UserError
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.ldm.validation import held_out_validation
from voxella.philox import keyed_generator
from voxella.ranks import Ranks

VISITS = 20_000
FLOW = ("diffusion.schedule=rectified_flow", "diffusion.prediction=flow", "sample.sampler=euler")


def drawn(
    name: TimestepDraw,
    steps: int = 1000,
    *,
    visits: int = VISITS,
    location: float = 0.0,
    scale: float = 1.0,
    shift: float | None = None,
    size: Sequence[int] = (16, 16, 8),
) -> list[int]:
    return [
        draw_timestep(
            name,
            steps,
            location=location,
            scale=scale,
            shift=shift,
            size=size,
            seed=4,
            case_id="case",
            step=visit,
        )
        for visit in range(visits)
    ]


@pytest.mark.parametrize(("location", "scale"), [(0.0, 1.0), (0.8, 0.5), (-1.0, 2.0)])
def test_logit_normal_is_the_papers_density(location: float, scale: float) -> None:
    """P(t <= s) = Phi((logit(s) - location) / scale), Esser et al. 2024, equation 19."""
    found = torch.tensor(drawn("logit_normal", location=location, scale=scale))
    for share in (0.05, 0.2, 0.5, 0.8, 0.95):
        expected = stats.norm.cdf((math.log(share / (1 - share)) - location) / scale)
        # Four standard errors of 20,000 draws at most.
        assert float((found < 1000 * share).float().mean()) == pytest.approx(expected, abs=0.0142)


def test_even_times_are_even_timesteps() -> None:
    counts = Counter(drawn("uniform", steps=10))
    assert stats.chisquare([counts[t] for t in range(10)]).pvalue > 1e-3


@pytest.mark.parametrize("size", [(64, 64, 32), (16, 16, 8), (64, 64)])
@pytest.mark.parametrize("edge", [32.0, 24.0])
def test_the_shift_is_monais(size: tuple[int, ...], edge: float) -> None:
    """The same normal numbers through MONAI's scheduler give the same timesteps, cut to whole."""
    theirs = RFlowScheduler(
        use_discrete_timesteps=False,
        sample_method="logit-normal",
        use_timestep_transform=True,
        base_img_size_numel=int(edge ** len(size)),
        spatial_dim=len(size),
    )
    visits = 500
    normals = [
        keyed_generator(4, "timesteps", "case", visit).standard_normal() for visit in range(visits)
    ]
    times = torch.tensor(normals, dtype=torch.float64).sigmoid()
    theirs.sample_t = lambda _: times
    expected = theirs.sample_timesteps(torch.empty(visits, 4, *size, dtype=torch.float64))
    ours = drawn("logit_normal", visits=visits, shift=edge, size=size)
    assert ours == expected.floor().long().tolist()
    # And it is no idle one: larger latents see more noise.
    plain = drawn("logit_normal", visits=visits)
    larger = math.prod(size) > edge ** len(size)
    assert (sum(ours) > sum(plain)) == larger


def test_both_ends_are_timesteps() -> None:
    assert set(drawn("logit_normal", visits=20, location=1e6)) == {999}
    assert set(drawn("logit_normal", visits=20, location=-1e6)) == {0}


def test_training_draws_by_the_recipe_and_validation_evenly(tmp_path: Path) -> None:
    recipe = tiny_recipe(
        *FLOW, "diffusion.timesteps={name: logit_normal, location: 3, scale: 0.1}", name="base"
    )
    folders = encoded_run(recipe, tmp_path, held_out=3)
    cases = {case.id: case for case in Manifest.read(folders.prepared).split("train")}
    latents = LatentCache.open(folders.latents)
    builder = LatentBatchBuilder(BatchSettings.of(recipe), cases, latents, None, 1.0)
    keys = [SampleKey(case, epoch) for epoch in range(8) for case in cases]
    trained = builder.make(keys).timesteps
    # sigmoid(3) is 0.953; of four standard deviations to either side 0.931 to 0.968.
    assert 930 <= int(trained.min()) <= int(trained.max()) <= 970
    again = builder.make(keys[:3]).timesteps
    assert torch.equal(trained[:3], again), "a function of seed, case and visit alone"
    validation = held_out_validation(recipe.deepspeed, folders, builder, Ranks(0, 0, 1))
    assert validation is not None
    held_out = [SampleKey(case, epoch) for epoch in range(8) for case in validation.builder.cases]
    looked_at = validation.builder.make(held_out).timesteps
    assert int(looked_at.min()) < 300
    assert int(looked_at.max()) > 700


def test_the_switch_changes_no_hash_and_refuses_what_makes_no_sense() -> None:
    assert "timesteps" not in tiny_recipe(name="base").fingerprint_data()["diffusion"]
    for block, told in (
        ("{name: logit_normal, shift: 32}", "only a flow's timesteps are shifted"),
        ("{name: uniform, scale: 2}", "location and scale are logit_normal's"),
        ("{name: logitnormal}", "did you mean logit_normal?"),
    ):
        with pytest.raises(UserError) as refused:
            tiny_recipe(f"diffusion.timesteps={block}", name="base")
        assert told in str(refused.value)
