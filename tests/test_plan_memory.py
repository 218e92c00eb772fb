"""The memory of a training: closed forms of the ZeRO paper, DeepSpeed's own, torch's allocator."""

from __future__ import annotations

from typing import Any, cast

import pytest
import scaling
import scaling_cell
import torch
from benchmark import random_batch
from tiny_run import REPOSITORY

from voxella.errors import UserError
from voxella.forecast.fit import Setting, choose, every_setting, sharded
from voxella.forecast.live import StepMemory, Tracing, training_peaks
from voxella.forecast.memory import largest_micro_batch, peak_bytes, states
from voxella.ldm.build import build_model
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

CAST = {"bf16": {"enabled": True}}
# Few weights under many voxels: what comes and goes is most of it.
BROAD = (
    "latent.size=[16, 16, 16]",
    "prepare.size=[64, 64, 64]",
    "backbone.channels=[16, 32]",
    "backbone.attention=[false, true]",
    "backbone.norm_groups=8",
    "backbone.head_channels=16",
    "conditioner.width=32",
    "conditioner.blocks=1",
    "conditioner.queries=16",
    "text.width=32",
    "text.max_tokens=64",
)


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe(REPOSITORY / "recipes" / "ccella.yaml", overrides=[*BROAD, *overrides])


def block_of(stage: int, **more: Any) -> dict[str, Any]:
    return {"train_batch_size": 16, "zero_optimization": {"stage": stage}, **more}


@pytest.mark.parametrize("processes", [1, 8])
def test_states_of_a_cast_model_are_those_of_the_zero_paper(processes: int) -> None:
    """Rajbhandari et al. 2020, figure 1: 16 bytes a parameter, K = 12 of them the optimizer's."""
    psi, n = 8_000, processes
    wanted = [16 * psi, 4 * psi + 12 * psi // n, 2 * psi + 14 * psi // n, 16 * psi // n]
    found = [states(block_of(s, **CAST), psi, n, averaged=False) for s in range(4)]
    assert [one.all for one in found] == wanted


@pytest.mark.parametrize("gpus", [1, 4, 16])
def test_states_are_those_that_deepspeed_estimates(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    psi = 1_600_000
    own = states(block_of(2, **CAST), psi, gpus, averaged=False)
    _, theirs = estimate_zero2_model_states_mem_needs(psi, gpus, cpu_offload=False)
    # DeepSpeed counts the float32 gradients of its step with the states.
    assert own.all + own.step_gradients == theirs
    off = sharded(block_of(2, **CAST), 2, offload=True)
    host, theirs = estimate_zero2_model_states_mem_needs(
        psi, gpus, cpu_offload=True, additional_buffer_factor=1
    )
    own = states(off, psi, gpus, averaged=False)
    # Its estimate takes gradients for on the host; the engine's lie on the card until the step.
    assert own.weights == theirs
    assert own.optimizer == 0
    assert own.host * gpus == (host if gpus == 1 else 16 * psi)


@pytest.mark.parametrize(
    ("stage", "processes", "bytes_a_parameter"),
    [
        (0, 4, 4 + 4 + 8 + 4),
        # From stage 1 on DeepSpeed steps on float32 copies of its own, of float32 weights too.
        (1, 4, 4 + 4 + 12 / 4 + 4),
        (2, 4, 4 + 4 / 4 + 12 / 4 + 4),
        (3, 4, (4 + 4 + 12 + 4) / 4),
    ],
)
def test_states_in_float32_with_an_average(
    stage: int, processes: int, bytes_a_parameter: float
) -> None:
    assert states(block_of(stage), 1000, processes, averaged=True).all == 1000 * bytes_a_parameter


@pytest.mark.parametrize(
    ("precision", "again"), [("null", "false"), ("null", "true"), ("bfloat16", "false")]
)
def test_activations_are_those_of_torchs_allocator(precision: str, again: str) -> None:
    """Forward and backward of a real model, by the CPU allocator's own account.

    Of two cases and more: a convolution of one has a workspace of 20 MB there, torch's im2col.
    """
    autocast = "null" if precision == "null" else "{enabled: true, dtype: bfloat16}"
    recipe = recipe_of(
        f"deepspeed.torch_autocast={autocast}", f"train.gradient_checkpointing={again}"
    )
    found = Tracing(recipe).training()
    assert found is not None
    assert recipe.text is not None
    torch.manual_seed(0)
    model = build_model(recipe).train()
    for cases in (2, 3):
        batch = random_batch(recipe, cases, torch.device("cpu"))

        def loss(batch: Any = batch) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision != "null"):
                return cast("torch.Tensor", model(batch)["total"])

        def backward() -> None:
            torch.autograd.backward(loss())

        model.zero_grad()
        peak = scaling_cell.allocator_peak(backward)
        fixed, slope = found.with_gradients
        assert fixed + cases * slope == pytest.approx(peak, rel=0.15)
        assert peak > 10 * sum(p.numel() for p in model.parameters())


def test_the_peak_of_known_layers() -> None:
    """Two linear layers: the graph keeps the input's product; gradients come one by one."""
    layers = torch.nn.Sequential(
        torch.nn.Linear(256, 256, bias=False), torch.nn.Linear(256, 256, bias=False)
    )
    given = torch.ones(1, 256)
    alone, joint = training_peaks(layers, lambda: layers(given).sum())
    one = 4 * 256 * 256
    # Both gradients and some vectors; without them one, while it is on its way to its weight.
    assert 2 * one < joint < 2 * one + 16 * 1024
    assert one <= alone < one + 16 * 1024
    assert all(p.grad is None for p in layers.parameters())


def test_a_whole_training_takes_what_is_forecast() -> None:
    """Engine, AdamW and average, in a process of its own, by its allocator."""
    overrides = [*BROAD, "deepspeed.torch_autocast=null", "deepspeed.train_batch_size=2"]
    overrides += ["deepspeed.zero_optimization.stage=0"]
    measured = scaling._in_processes(overrides, 1, 1)
    planned = scaling.forecast_bytes(recipe_of(*overrides), measured["parameters"], 1)
    assert planned == pytest.approx(measured["allocator_bytes"], rel=0.15)
    # The resident set has workspaces and gaps beside it.
    assert measured["resident_bytes"] > 0.8 * planned


def test_deepspeeds_buffers_lie_beside_the_states() -> None:
    nothing = StepMemory((0, 0), (0, 0))
    own = {"reduce_bucket_size": 7, "stage3_prefetch_bucket_size": 50}

    def peak(stage: int) -> int:
        block = {"train_batch_size": 16, "zero_optimization": {"stage": stage, **own}}
        return peak_bytes(block, 1000, 4, nothing, averaged=False)

    # Weights, moments, gradients, and a flat copy of these whatever the bucket.
    assert peak(0) == 1000 * (4 + 8 + 4 + 4)
    # The step's float32 gradients of a quarter are more than a bucket of seven.
    assert peak(2) == 1000 * (4 + 3 + 1 + 1)
    # All weights gathered, fifty of them twice, and the bucket.
    assert peak(3) == 1000 * (1 + 3 + 1) + 4 * (1000 + 50 + 7)


STEPS = {False: StepMemory((0, 100), (50, 100)), True: StepMemory((0, 10), (50, 10))}


def test_the_largest_micro_batch_is_the_last_that_fits_and_divides() -> None:
    block = block_of(0)
    one = {**block, "train_micro_batch_size_per_gpu": 1}
    held = peak_bytes(one, 10, 1, STEPS[False], averaged=False)
    # 10 parameters: weights and moments 120, gradients 40 in any micro batch but the only one.
    assert held == 120 + 40 + 100
    for room, micro in ((259, None), (260, 1), (359, 1), (360, 2), (760, 4), (1769, 8), (1770, 16)):
        found = largest_micro_batch(block, 10, 1, STEPS[False], room, averaged=False)
        assert found == micro, room


def test_the_first_setting_that_fits_is_proposed() -> None:
    def proposed(usable: int, processes: int = 1) -> Setting:
        return choose(
            every_setting(block_of(2), 10, processes, STEPS, usable, averaged=False), "a card"
        )

    assert (proposed(260).checkpointing, proposed(260).micro_batch) == (False, 1)
    # 40 + 120 + 10 with activations computed again.
    assert (proposed(200).checkpointing, proposed(200).micro_batch) == (True, 4)
    assert proposed(200).stage == 0
    with pytest.raises(UserError, match="nothing fits a card") as caught:
        proposed(100)
    assert "--gpus N" in str(caught.value)
    with pytest.raises(UserError, match="16 does not divide among 3 cards") as caught:
        proposed(10**9, 3)
    assert "--gpus 2" in str(caught.value)
