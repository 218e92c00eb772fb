"""In bfloat16 on a CPU what may be wrong is computed in float32, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from voxella.engine.convolutions import sound_convolutions
from voxella.engine.processor.soundness import convolution_fault

CPU = torch.device("cpu")
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv1d": lambda: nn.Conv1d(3, 4, 3, padding=1),
    "conv2d": lambda: nn.Conv2d(3, 4, 3, padding=1, stride=2),
    "conv3d": lambda: nn.Conv3d(3, 4, 3, padding=1),
    "transposed": lambda: nn.ConvTranspose3d(3, 4, 3, padding=1),
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
    with sound_convolutions(CPU, reduced=True, fault="reaching"):
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
    guard = sound_convolutions(CPU, reduced=True, fault="reaching")
    with guard, torch.autocast("cpu", dtype=torch.bfloat16):
        out: Any = checkpoint(lambda x: layer(x.bfloat16()), x, use_reentrant=False)
        out.float().sum().backward()
    assert seen == [torch.float32] * 2
    assert functional.conv3d is watched


def test_matrix_products_keep_onednn_and_bfloat16() -> None:
    with sound_convolutions(CPU, reduced=True, fault="any"):
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
        with sound_convolutions(device, reduced=reduced, fault="any"):
            assert functional.conv3d is genuine
    with sound_convolutions(CPU, reduced=True, fault="any"):
        assert torch.equal(layer(x), exact)


def test_a_compiled_network_is_guarded() -> None:
    torch.manual_seed(6)
    layer = nn.Conv3d(2, 2, 3, padding=1)
    compiled = torch.compile(layer, backend="eager")
    x = torch.randn(1, 2, 2, 2, 2)
    guard = sound_convolutions(CPU, reduced=True, fault="reaching")
    with guard, torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(compiled(x), layer(x))


def test_a_mended_torch_is_left_alone() -> None:
    genuine = functional.conv3d
    with sound_convolutions(CPU, reduced=True, fault="none"):
        assert functional.conv3d is genuine


def test_only_kernels_that_reach_over_an_axis_are_computed_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.dtype] = []
    genuine = functional.conv3d

    def watched(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.append(input.dtype)
        return genuine(input, *args, **kwargs)

    monkeypatch.setattr(functional, "conv3d", watched)
    layer = nn.Conv3d(2, 2, 3, padding="same").bfloat16()
    with sound_convolutions(CPU, reduced=True, fault="reaching"):
        for extents in ((3, 3, 3), (4, 3, 2), (2, 2, 2)):
            layer(torch.randn(1, 2, *extents).bfloat16())
    assert seen == [torch.bfloat16, torch.float32, torch.float32]


# Extents of the input, kernel, stride, padding, dilation, groups; transposed or not.
Shape = tuple[tuple[int, ...], int, int, int, int, int, bool]
SHAPES: list[Shape] = [
    *(((n, n, n), 3, 1, 1, 1, 1, False) for n in (1, 2, 3, 4, 6)),
    *(((n, n, n), 3, 2, 1, 1, 1, False) for n in (1, 2, 3, 4, 6)),
    *((extents, 3, 1, 1, 1, 1, False) for extents in ((2, 4, 8), (8, 2, 4), (3, 5, 2))),
    ((1, 8, 9), 3, 1, 2, 2, 1, False),
    ((4, 8, 2), 2, 3, 1, 1, 1, False),
    ((5, 4, 6), 1, 1, 0, 1, 1, False),
    ((4, 6, 5), 5, 1, 2, 1, 2, False),
    ((4, 4, 4), 3, 1, 1, 1, 16, False),
    ((2, 2, 4), 5, 2, 2, 1, 1, True),
    ((4, 3, 5), 2, 2, 0, 1, 1, True),
    ((3, 3, 3), 3, 1, 1, 1, 1, True),
    ((6, 2), 3, 3, 1, 1, 1, False),
    ((8, 9), 3, 1, 1, 1, 1, False),
    ((4, 1), 3, 3, 1, 1, 2, True),
    ((1,), 4, 2, 3, 1, 1, False),
]


@pytest.mark.parametrize("memory", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_float64_over_shapes(shape: Shape, memory: str) -> None:
    """With what this machine's trial finds: within the rounding of bfloat16, and repeatably."""
    extents, kernel, stride, padding, dilation, groups, transposed = shape
    axes, generator = len(extents), torch.Generator().manual_seed(3)
    x = torch.randn(2, 16, *extents, generator=generator).bfloat16()
    weight = torch.randn(16, 16 // groups, *(kernel,) * axes, generator=generator).bfloat16()
    if memory == "channels_last" and axes > 1:
        x = x.to(memory_format=torch.channels_last if axes == 2 else torch.channels_last_3d)
    name = f"conv{'_transpose' if transposed else ''}{axes}d"
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def computed(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
        out = getattr(functional, name)(x, weight, **options)
        asked = torch.arange(out.numel()).remainder(7).sub(3).reshape(out.shape)
        found = torch.autograd.grad(out, (x, weight), asked.to(out.dtype))
        return out.detach(), *found

    exact = computed(x.double(), weight.double())
    with sound_convolutions(CPU, reduced=True):
        for trial in range(4):
            # What is read unwritten holds these numbers.
            left = [torch.full((2**n,), (1e30, float("nan"))[trial % 2]) for n in (8, 12, 16, 20)]
            del left
            for mine, other in zip(computed(x, weight), exact, strict=True):
                assert mine.dtype is torch.bfloat16
                error = (mine.double() - other).norm()
                assert float(error) <= 0.01 * float(other.norm())


def test_the_trial_of_this_machine_tells_what_the_gradients_are() -> None:
    """The guard is lifted where 2 x 2 x 2 voxels are computed rightly, and there alone."""
    assert convolution_fault() != "any"
    x = torch.randn(1, 32, 2, 2, 2, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight = torch.randn(32, 32, 3, 3, 3).bfloat16().requires_grad_()
    found = []
    for trial in range(12):
        left = [torch.full((2**n,), (1e30, float("nan"))[trial % 2]) for n in (8, 12, 16, 20)]
        del left
        out = torch.conv3d(x, weight, None, 1, 1)
        found.append(torch.autograd.grad(out.sum(), weight)[0].float())
    exact = torch.conv3d(x.float(), weight.float(), None, 1, 1)
    (wanted,) = torch.autograd.grad(exact.sum(), weight)
    worst = max(float((g - wanted).norm() / wanted.norm()) for g in found)
    sound = all(torch.isfinite(g).all() for g in found) and worst < 0.02
    assert sound == (convolution_fault() == "none")
