"""In bfloat16 training on a CPU convolutions are computed in float32, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from voxella.engine.convolutions import sound_convolutions

CPU = torch.device("cpu")
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv1d": lambda: nn.Conv1d(3, 4, 3, padding=1),
    "conv2d": lambda: nn.Conv2d(3, 4, 3, padding=1, stride=2),
    "conv3d": lambda: nn.Conv3d(3, 4, 3, padding=1),
    "transposed": lambda: nn.ConvTranspose3d(3, 4, 2, stride=2),
}


def _gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    layer.zero_grad()
    layer(x).float().square().sum().backward()
    return [p.grad.float().clone() for p in layer.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("cast", [True, False])
def test_gradients_of_a_convolution_are_of_float32(name: str, cast: bool) -> None:
    """Under a cast model and under autocast, what the float32 layer gives on the same numbers."""
    torch.manual_seed(5)
    axes = {"conv1d": 1, "conv2d": 2}.get(name, 3)
    layer = LAYERS[name]().bfloat16().float()
    x = torch.randn(2, 3, *(2,) * axes).bfloat16().float()
    # Of a float32 output rounded to bfloat16, as the guarded layer hands on.
    rounded = _Rounded(layer)
    exact = _gradients(rounded, x)
    with sound_convolutions(CPU, reduced=True):
        if cast:
            found = _gradients(layer.bfloat16(), x.bfloat16())
            wanted = [g.bfloat16().float() for g in exact]
        else:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = layer(x)
                assert out.dtype is torch.bfloat16
                found, wanted = _gradients(layer, x), exact
    assert len(found) == 2
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


class _Rounded(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x).bfloat16()
        return out


def test_what_is_computed_again_in_the_backward_pass_is_caught_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.dtype] = []
    genuine = functional.conv3d

    def watched(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        seen.append(input.dtype)
        return genuine(input, *args, **kwargs)

    monkeypatch.setattr(functional, "conv3d", watched)
    layer = nn.Conv3d(2, 2, 3, padding=1)
    x = torch.randn(1, 2, 2, 2, 2, requires_grad=True)
    with sound_convolutions(CPU, reduced=True), torch.autocast("cpu", dtype=torch.bfloat16):
        out: Any = checkpoint(lambda x: layer(x.bfloat16()), x, use_reentrant=False)
        out.float().sum().backward()
    assert seen == [torch.float32] * 2
    assert functional.conv3d is watched


def test_matrix_products_keep_onednn_and_bfloat16() -> None:
    with sound_convolutions(CPU, reduced=True):
        assert torch.backends.mkldnn.enabled
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert nn.Linear(4, 4)(torch.ones(2, 4)).dtype is torch.bfloat16
            x = torch.ones(1, 1, 3, 3, 3)
            weight = torch.ones(1, 1, 1, 1, 1)
            assert functional.conv3d(input=x, weight=weight).dtype is torch.bfloat16


def test_float32_and_other_devices_are_left_alone() -> None:
    x = torch.randn(1, 2, 4, 4, 4)
    layer = nn.Conv3d(2, 2, 3)
    genuine, exact = functional.conv3d, layer(x)
    for device, reduced in ((CPU, False), (torch.device("cuda"), True)):
        with sound_convolutions(device, reduced=reduced):
            assert functional.conv3d is genuine
    with sound_convolutions(CPU, reduced=True):
        assert torch.equal(layer(x), exact)


def test_a_compiled_network_is_guarded() -> None:
    torch.manual_seed(6)
    layer = nn.Conv3d(2, 2, 3, padding=1)
    compiled = torch.compile(layer, backend="eager")
    x = torch.randn(1, 2, 2, 2, 2)
    with sound_convolutions(CPU, reduced=True), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(x), layer(x))
