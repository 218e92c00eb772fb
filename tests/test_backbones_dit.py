"""The diffusion transformer: patches, positions, conditioning, and its zero start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_backbones.dit3d import DiT
from voxella_backbones.patches import patchify, sincos_positions, unpatchify
from voxella_backbones.plugin import build_dit3d

CONTEXT = 6


def _dit(
    vectors: Mapping[str, int],
    context_dim: int | None = None,
    size: tuple[int, ...] = (4, 6, 4),
    awake: bool = True,
    **changes: Any,
) -> DiT:
    torch.manual_seed(0)
    module = build_dit3d(
        spatial_dims=changes.pop("spatial_dims", len(size)),
        in_channels=2,
        out_channels=3,
        input_size=list(size),
        context_dim=context_dim,
        vectors=vectors,
        **({"width": 24, "depth": 2, "heads": 2} | changes),
    )
    assert isinstance(module, DiT)
    if awake:
        for parameter in module.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return module


def _told(vectors: Mapping[str, int], context: bool = False) -> Conditioning:
    torch.manual_seed(4)
    return Conditioning(
        context=torch.randn(2, 5, CONTEXT) if context else None,
        vectors={name: torch.randn(2, width) for name, width in vectors.items()},
    )


def _inputs(size: tuple[int, ...] = (4, 6, 4)) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(2, 2, *size), torch.tensor([7, 900])


@pytest.mark.parametrize("size", [(6, 4), (4, 6, 2), (2, 4, 2, 6)])
def test_patches_are_voxels_and_come_back(size: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, math.prod(size) // 2 ** len(size), 3 * 2 ** len(size))
    # The second patch in row-major order is one patch along the LAST axis.
    corner = (slice(0, 2),) * (len(size) - 1)
    block = x[(slice(None), slice(None), *corner, slice(2, 4))]
    if size[-1] > 2:
        assert torch.equal(tokens[:, 1], block.reshape(2, -1))
    grid = [n // 2 for n in size]
    assert torch.equal(unpatchify(tokens, grid, 2), x)


@pytest.mark.parametrize(("grid", "width"), [((4, 5), 24), ((4, 5, 3), 24), ((3, 3, 3), 26)])
def test_positions_tell_every_patch_apart(grid: tuple[int, ...], width: int) -> None:
    table = sincos_positions(grid, width)[0]
    assert table.shape == (math.prod(grid), width)
    distances = torch.cdist(table, table) + torch.eye(len(table)) * 9
    assert distances.min() > 0.1
    # Along one axis it is Vaswani's table: sin and cos of place times falling frequency.
    share = width // (2 * len(grid))
    place = grid[-1] - 1
    start = 2 * share * (len(grid) - 1)
    for k in range(share):
        angle = place * 10000.0 ** (-k / share)
        assert float(table[place, start + k]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(table[place, start + share + k]) == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("context_dim", [None, CONTEXT])
def test_a_fresh_network_predicts_zero_and_can_learn(context_dim: int | None) -> None:
    dit = _dit({"spacing": 3}, context_dim, awake=False)
    x, timesteps = _inputs()
    out = dit(x, timesteps, _told({"spacing": 3}, context=context_dim is not None))
    assert torch.all(out == 0)
    (out - 1).square().sum().backward()
    assert dit.final_linear.bias.grad is not None
    assert dit.final_linear.bias.grad.abs().min() > 0


def test_blocks_start_as_the_identity() -> None:
    dit = _dit({}, CONTEXT, awake=False)
    tokens, signal = torch.randn(2, 5, 24), torch.randn(2, 24)
    context = torch.randn(2, 5, CONTEXT)
    assert torch.equal(dit.blocks[0](tokens, signal, context, None), tokens)


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 4)])
def test_shapes_in_two_and_three_dimensions(size: tuple[int, ...]) -> None:
    dit = _dit({"class": 2, "spacing": 3}, CONTEXT, size)
    x, timesteps = _inputs(size)
    out = dit(x, timesteps, _told({"class": 2, "spacing": 3}, context=True))
    assert out.shape == (2, 3, *size)


def test_it_listens_to_time_vectors_context_and_place() -> None:
    vectors = {"class": 2, "spacing": 3}
    dit = _dit(vectors, CONTEXT)
    x, timesteps = _inputs()
    told = _told(vectors, context=True)
    out = dit(x, timesteps, told)
    assert told.context is not None
    changed = [
        dit(x, timesteps + 50, told),
        dit(x, timesteps, told._replace(context=told.context + 1)),
        dit(x, timesteps, told._replace(vectors={**told.vectors, "class": torch.ones(2, 2)})),
        dit(x, timesteps, told._replace(vectors={**told.vectors, "spacing": torch.ones(2, 3)})),
    ]
    for other in changed:
        assert (other - out).abs().max() > 1e-3
    # Without positions a network of attention alone would turn with its input by whole patches.
    rolled = dit(x.roll(2, dims=3), timesteps, told).roll(-2, dims=3)
    assert (rolled - out).abs().max() > 1e-3


def test_padding_is_invisible_under_the_mask_and_visible_without() -> None:
    dit = _dit({}, CONTEXT)
    x, timesteps = _inputs()
    told = _told({}, context=True)
    assert told.context is not None
    padded = torch.cat([told.context, torch.full((2, 3, CONTEXT), 5.0)], dim=1)
    mask = torch.arange(8).expand(2, 8) < 5
    out = dit(x, timesteps, told)
    hidden = dit(x, timesteps, Conditioning(context=padded, context_mask=mask))
    torch.testing.assert_close(hidden, out, atol=1e-6, rtol=1e-5)
    assert (dit(x, timesteps, Conditioning(context=padded)) - out).abs().max() > 1e-3


def test_gradient_checkpointing_changes_no_value_or_gradient() -> None:
    dit = _dit({"spacing": 3}, CONTEXT)
    told = _told({"spacing": 3}, context=True)._replace(
        context_mask=torch.arange(5).expand(2, 5) < 3
    )
    x, timesteps = _inputs()
    results: list[list[Tensor]] = []
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel()
        return tensor

    for enabled in (False, True):
        dit.set_gradient_checkpointing(enabled)
        dit.zero_grad()
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = dit(x, timesteps, told)
        out.square().mean().backward()
        gradients = [p.grad.clone() for p in dit.parameters() if p.grad is not None]
        results.append([out.detach(), *gradients])
    assert kept[1] < kept[0], "checkpointing keeps less"
    assert len(results[0]) == 1 + len(list(dit.parameters()))
    for plain, recomputed in zip(*results, strict=True):
        assert torch.equal(plain, recomputed)


def test_bfloat16_by_cast_and_by_autocast() -> None:
    dit = _dit({"spacing": 3}, CONTEXT)
    told = _told({"spacing": 3}, context=True)
    x, timesteps = _inputs()
    exact = dit(x, timesteps, told)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = dit(x, timesteps, told)
    cast = dit.bfloat16()(x, timesteps, told)
    for out in (automatic, cast):
        assert out.dtype is torch.float32
        assert 0 < (out - exact).abs().max() < 0.1 * exact.abs().max()


def test_wrong_sizes_name_the_allowed_patches() -> None:
    with pytest.raises(
        UserError, match=r"patch_size 4 does not divide input_size \(4, 6, 4\)"
    ) as e:
        _dit({}, patch_size=4, heads=5)
    assert "heads 5 does not divide width 24" in str(e.value)
    assert "patch_size 1, 2 for this latent" in str(e.value)
    with pytest.raises(UserError, match=r"input_size \(4, 4\) for spatial_dims 3"):
        _dit({}, size=(4, 4), spatial_dims=3)


def test_another_grid_or_vector_than_built_for() -> None:
    dit = _dit({"spacing": 3})
    with pytest.raises(ValueError, match=r"built for \(4, 6, 4\), got \(4, 4, 4\)"):
        dit(torch.randn(2, 2, 4, 4, 4), torch.tensor([1, 2]), _told({"spacing": 3}))
    x, timesteps = _inputs()
    with pytest.raises(ValueError, match="missing vector 'spacing'"):
        dit(x, timesteps, Conditioning())
