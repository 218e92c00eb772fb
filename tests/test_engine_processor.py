"""What this machine's processor does in bfloat16: attention, speed, and what is taken of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from voxella.engine.processor import block as block_module
from voxella.engine.processor.attention import quick_attention
from voxella.engine.processor.block import block_here
from voxella.engine.processor.speed import bfloat16_gain
from voxella.ranks import Ranks

CPU = torch.device("cpu")


Parts = tuple[Tensor, Tensor, Tensor]


def _parts(dtype: torch.dtype) -> Parts:
    generator = torch.Generator().manual_seed(4)

    def made() -> Tensor:
        part = torch.randn(2, 4, 33, 16, generator=generator).bfloat16()
        return part.to(dtype).requires_grad_()

    return made(), made(), made()


def _mask() -> Tensor:
    mask = torch.ones(2, 1, 33, 33, dtype=torch.bool)
    mask[1, :, :, 20:] = False
    return mask


def _computed(parts: Parts, mask: Tensor | None) -> tuple[Tensor, ...]:
    out = functional.scaled_dot_product_attention(*parts, mask)
    asked = torch.arange(out.numel()).remainder(7).sub(3).reshape(out.shape)
    return out.detach(), *torch.autograd.grad(out, parts, asked.to(out.dtype))


@pytest.mark.parametrize("kind", ["none", "truth", "additive"])
@pytest.mark.parametrize("cast", [True, False])
def test_trained_attention_is_that_of_float64_to_one_rounding(kind: str, cast: bool) -> None:
    """Nearer to it than bfloat16's own, in value and in gradients."""
    mask = None if kind == "none" else _mask()
    if kind == "additive" and mask is not None:
        mask = torch.zeros(mask.shape).masked_fill(~mask, -1e4)
    exact = _computed(
        _parts(torch.float64), mask.double() if kind == "additive" and mask is not None else mask
    )
    parts = _parts(torch.bfloat16 if cast else torch.float32)
    if kind == "additive" and mask is not None and cast:
        mask = mask.bfloat16()
    with (
        quick_attention(CPU, reduced=True),
        torch.autocast("cpu", torch.bfloat16, enabled=not cast),
    ):
        mine = _computed(parts, mask)
    assert mine[0].dtype is torch.bfloat16
    for found, wanted in zip(mine, exact, strict=True):
        assert float((found.double() - wanted).norm() / wanted.norm()) < 0.003


def test_attention_without_gradients_and_elsewhere_is_left_alone() -> None:
    genuine = functional.scaled_dot_product_attention
    query, key, value = (part.detach() for part in _parts(torch.bfloat16))
    own = genuine(query, key, value)
    with quick_attention(CPU, reduced=True):
        assert torch.equal(functional.scaled_dot_product_attention(query, key, value), own)
        exact = _parts(torch.float32)
        assert torch.equal(functional.scaled_dot_product_attention(*exact), genuine(*exact))
    for device, reduced in ((CPU, False), (torch.device("cuda"), True)):
        with quick_attention(device, reduced=reduced):
            assert functional.scaled_dot_product_attention is genuine
    assert functional.scaled_dot_product_attention is genuine


def test_the_gain_is_measured_once_and_is_a_ratio() -> None:
    gain = bfloat16_gain()
    assert 0.001 < gain < 100
    assert bfloat16_gain() == gain


AUTO = {"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}
HALF = {"torch_autocast": {"enabled": True, "dtype": "float16"}}
CPU_OFFLOAD = {"stage": 2, "offload_optimizer": {"device": "cpu"}}


@pytest.mark.parametrize(
    ("asked", "world", "gain", "taken", "told"),
    [
        ({"zero_optimization": {"stage": 3}}, 1, 2.0, {"zero_optimization": {"stage": 0}}, "ZeRO"),
        ({"zero_optimization": {"stage": 2}}, 2, 2.0, {"zero_optimization": {"stage": 2}}, ""),
        ({"zero_optimization": {"stage": 0}}, 1, 2.0, {"zero_optimization": {"stage": 0}}, ""),
        ({"zero_optimization": CPU_OFFLOAD}, 1, 2.0, {"zero_optimization": CPU_OFFLOAD}, ""),
        (
            {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}},
            *(1, 2.0),
            {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}},
            "",
        ),
        (AUTO, 1, 1.9, AUTO, "computing in bfloat16, 1.9 times as fast"),
        (AUTO, 1, 0.4, {"torch_autocast": None}, "computing in float32: bfloat16 is 0.4 times"),
        (HALF, 1, 0.4, HALF, ""),
        ({"torch_autocast": None}, 1, 1.9, {"torch_autocast": None}, ""),
    ],
)
def test_what_is_taken_of_a_block_is_told(
    asked: dict[str, Any],
    world: int,
    gain: float,
    taken: dict[str, Any],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(block_module, "bfloat16_gain", lambda: gain)
    monkeypatch.setattr(block_module, "bfloat16_pays", lambda: gain > 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = repr(asked)
    assert block_here(asked, Ranks(0, 0, world), tmp_path) == taken
    assert repr(asked) == before
    out = capsys.readouterr().out
    assert told in out
    assert bool(out) == bool(told)
