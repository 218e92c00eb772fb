"""The MAISI U-Net: MONAI's own network where they can be compared, and what MONAI's lacks."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_monai import awake, monai_unet
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.engine.convolutions import sound_convolutions
from voxella.errors import UserError
from voxella_backbones.maisi_unet import MaisiUNet
from voxella_backbones.plugin import build_maisi_unet
from voxella_backbones.released import convert_released_state_dict, load_released

CONTEXT = 6
SMALL: dict[str, Any] = {
    "channels": [8, 16],
    "attention": [False, True],
    "head_channels": 4,
    "res_blocks": 1,
    "norm_groups": 4,
}


def _unet(
    vectors: Mapping[str, int], context_dim: int | None = None, dims: int = 3, **changes: Any
) -> MaisiUNet:
    torch.manual_seed(0)
    module = build_maisi_unet(
        spatial_dims=dims,
        in_channels=2,
        out_channels=2,
        context_dim=context_dim,
        vectors=vectors,
        **(SMALL | changes),
    )
    assert isinstance(module, MaisiUNet)
    return awake(module)


def _inputs(dims: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn((2, 2, *(4,) * dims), generator=generator), torch.tensor([7, 900])


def _conditioning(vectors: Mapping[str, int], context: bool = False) -> Conditioning:
    generator = torch.Generator().manual_seed(4)
    return Conditioning(
        context=torch.randn(2, 5, CONTEXT, generator=generator) if context else None,
        vectors={k: torch.randn(2, n, generator=generator) for k, n in vectors.items()},
    )


@pytest.mark.parametrize(
    ("vectors", "context_dim", "count"),
    [  # counted on the modules released with the paper
        ({"spacing": 3}, None, 166_254_852),
        ({"class": 2, "spacing": 3}, None, 167_812_356),
        ({"spacing": 3}, 768, 203_413_508),
        ({"class": 2, "spacing": 3}, 768, 204_971_012),
    ],
)
def test_parameters_at_the_papers_size(
    vectors: dict[str, int], context_dim: int | None, count: int
) -> None:
    with torch.device("meta"):
        module = build_maisi_unet(
            spatial_dims=3, in_channels=4, out_channels=4, context_dim=context_dim, vectors=vectors
        )
    assert isinstance(module, nn.Module)
    assert sum(parameter.numel() for parameter in module.parameters()) == count


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("context_dim", [None, CONTEXT])
@pytest.mark.parametrize("flash", [True, False])
def test_with_spacing_alone_it_is_monais_network(
    dims: int, context_dim: int | None, flash: bool
) -> None:
    vectors = {"spacing": 3}
    theirs = monai_unet(dims=dims, text_width=context_dim)
    ours = _unet(vectors, context_dim, dims, flash_attention=flash)
    assert list(ours.state_dict()) != []
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x, timesteps = _inputs(dims)
    told = _conditioning(vectors, context=context_dim is not None)
    expected = theirs(x, timesteps, told.context, spacing_tensor=told.vectors["spacing"])
    assert expected.std() > 1e-2
    torch.testing.assert_close(ours(x, timesteps, told), expected, atol=1e-5, rtol=1e-5)


def test_two_vectors_are_joined_as_monai_joins_its_region_and_spacing() -> None:
    theirs = monai_unet(text_width=CONTEXT, include_top_region_index_input=True)
    vectors = {"top_region": 4, "spacing": 3}
    ours = _unet(vectors, CONTEXT)
    ours.load_state_dict(convert_released_state_dict(theirs.state_dict()), strict=True)
    x, timesteps = _inputs()
    told = _conditioning(vectors, context=True)
    expected = theirs(
        x,
        timesteps,
        told.context,
        top_region_index_tensor=told.vectors["top_region"],
        spacing_tensor=told.vectors["spacing"],
    )
    torch.testing.assert_close(ours(x, timesteps, told), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prefix", ["", "unet.", "module.", "module.unet."])
def test_released_names_become_ours(prefix: str) -> None:
    ours = _unet({"class": 2, "spacing": 3}, CONTEXT)
    released = {
        prefix + name.replace("class_layer", "pirads_layer"): tensor
        for name, tensor in ours.state_dict().items()
    }
    if prefix.endswith("unet."):
        released[prefix.replace("unet.", "ella.proj.weight")] = torch.zeros(1)
    other = _unet({"class": 2, "spacing": 3}, CONTEXT)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(convert_released_state_dict(released), strict=True)
    assert all(
        torch.equal(tensor, other.state_dict()[name]) for name, tensor in ours.state_dict().items()
    )


def test_a_released_checkpoint_loads_from_its_file(tmp_path: Path) -> None:
    ours = _unet({"class": 2, "spacing": 3}, CONTEXT)
    state = {
        "unet." + name.replace("class_layer", "pirads_layer"): tensor.clone()
        for name, tensor in ours.state_dict().items()
    }
    state["ella.proj_in.weight"] = torch.zeros(1)
    path = tmp_path / "released.pt"
    torch.save({"epoch": 400, "scale_factor": torch.tensor(0.9), "unet_state_dict": state}, path)
    other = _unet({"class": 2, "spacing": 3}, CONTEXT)
    for parameter in other.parameters():
        parameter.data.zero_()
    assert load_released(other, path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True)
    )
    with pytest.raises(UserError, match="does not hold the weights of this network"):
        load_released(_unet({"spacing": 3}, CONTEXT), path)


@pytest.mark.parametrize("vectors", [{}, {"a": 1, "type": 2, "values": 3, "forward": 4}])
def test_any_number_of_vectors_under_any_name(vectors: dict[str, int]) -> None:
    unet = _unet(vectors)
    x, timesteps = _inputs()
    told = _conditioning(vectors)
    out = unet(x, timesteps, told)
    assert out.shape == x.shape
    for name in vectors:
        other = told._replace(vectors=told.vectors | {name: told.vectors[name] + 1})
        assert not torch.equal(unet(x, timesteps, other), out), name


def test_the_builders_order_counts_not_the_callers() -> None:
    ab, ba = _unet({"a": 2, "b": 2}), _unet({"b": 2, "a": 2})
    ba.load_state_dict(ab.state_dict(), strict=True)
    x, timesteps = _inputs()
    told = _conditioning({"a": 2, "b": 2})
    turned = told._replace(vectors=dict(reversed(list(told.vectors.items()))))
    assert torch.equal(ab(x, timesteps, told), ab(x, timesteps, turned))
    assert not torch.equal(ab(x, timesteps, told), ba(x, timesteps, told))


def test_padding_is_invisible_under_the_mask_and_visible_without() -> None:
    unet = _unet({}, CONTEXT)
    x, timesteps = _inputs()
    told = _conditioning({}, context=True)
    assert told.context is not None
    padded = torch.cat([told.context, torch.full((2, 3, CONTEXT), 5.0)], dim=1)
    mask = torch.arange(8).expand(2, 8) < 5
    out = unet(x, timesteps, told)
    hidden = unet(x, timesteps, Conditioning(context=padded, context_mask=mask))
    torch.testing.assert_close(hidden, out, atol=1e-6, rtol=1e-5)
    seen = unet(x, timesteps, Conditioning(context=padded))
    assert (seen - out).abs().max() > 1e-3


@pytest.mark.parametrize("context_dim", [None, CONTEXT])
def test_gradient_checkpointing_changes_no_value_gradient_or_name(context_dim: int | None) -> None:
    unet = _unet({"spacing": 3}, context_dim)
    names = list(unet.state_dict())
    told = _conditioning({"spacing": 3}, context=context_dim is not None)
    if context_dim is not None:
        told = told._replace(context_mask=torch.arange(5).expand(2, 5) < 3)
    results: list[list[Tensor]] = []
    for enabled in (False, True):
        unet.set_gradient_checkpointing(enabled)
        unet.zero_grad()
        x, timesteps = _inputs()
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t.numel()) or t,  # type: ignore[misc]  # append gives None
            lambda t: t,
        ):
            out = unet(x.requires_grad_(), timesteps, told)
        results.append([torch.tensor(sum(kept)), out.detach()])
        out.square().mean().backward()
        assert x.grad is not None
        results[-1] += [x.grad, *[p.grad.clone() for p in unet.parameters() if p.grad is not None]]
    assert results[1][0] < results[0][0], "checkpointing keeps less"
    assert len(results[0]) == len(results[1]) == 3 + len(list(unet.parameters()))
    for plain, recomputed in zip(results[0][1:], results[1][1:], strict=True):
        assert torch.equal(plain, recomputed)
    assert list(unet.state_dict()) == names


def test_a_copy_is_independent() -> None:
    unet = _unet({}, CONTEXT)
    twin = copy.deepcopy(unet)
    for parameter in unet.parameters():
        parameter.data.zero_()
    x, timesteps = _inputs()
    out = twin(x, timesteps, _conditioning({}, context=True))
    assert out.abs().sum() > 0


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("context_dim", [None, CONTEXT])
def test_bfloat16_by_cast_and_by_autocast(flash: bool, context_dim: int | None) -> None:
    unet = _unet({"spacing": 3}, context_dim, flash_attention=flash, upcast_attention=True)
    told = _conditioning({"spacing": 3}, context=context_dim is not None)
    x, timesteps = _inputs()
    exact = unet(x, timesteps, told)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        automatic = unet(x, timesteps, told)
    # As the engine trains it: oneDNN's gradients of so small a grid are not to be trusted.
    with sound_convolutions(torch.device("cpu"), reduced=True):
        cast = unet.bfloat16()(x, timesteps, told)
        cast.sum().backward()
    for out in (automatic, cast):
        assert out.dtype is torch.float32
        assert 0 < (out - exact).abs().max() < 0.1 * exact.abs().max()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in unet.parameters())


def test_compiles_without_a_break() -> None:
    unet = _unet({"spacing": 3}, CONTEXT)
    told = _conditioning({"spacing": 3}, context=True)._replace(
        context_mask=torch.arange(5).expand(2, 5) < 3
    )
    x, timesteps = _inputs()
    compiled = torch.compile(unet, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, timesteps, told), unet(x, timesteps, told))


def test_a_fresh_network_predicts_zero() -> None:
    module = build_maisi_unet(
        spatial_dims=3, in_channels=2, out_channels=2, context_dim=None, vectors={}, **SMALL
    )
    x, timesteps = _inputs()
    assert torch.all(module(x, timesteps, Conditioning()) == 0)


def test_wrong_vectors_are_all_named() -> None:
    unet = _unet({"class": 2, "spacing": 3})
    x, timesteps = _inputs()
    with pytest.raises(
        ValueError, match=r"missing vector 'class'; unknown vector 'age'; .*\(2, 2\)"
    ):
        unet(
            x,
            timesteps,
            Conditioning(vectors={"age": torch.ones(2, 1), "spacing": torch.ones(2, 2)}),
        )


def test_context_must_be_what_was_built() -> None:
    x, timesteps = _inputs()
    with pytest.raises(ValueError, match="built without one"):
        _unet({})(x, timesteps, _conditioning({}, context=True))
    with pytest.raises(ValueError, match="width 6, none was given"):
        _unet({}, CONTEXT)(x, timesteps, Conditioning())
    with pytest.raises(ValueError, match=r"expected \(2, T, 6\)"):
        _unet({}, CONTEXT)(x, timesteps, Conditioning(context=torch.ones(2, 5, 7)))
    with pytest.raises(ValueError, match=r"context_mask has shape \(2, 4\), expected \(2, 5\)"):
        _unet({}, CONTEXT)(
            x,
            timesteps,
            _conditioning({}, True)._replace(context_mask=torch.ones(2, 4, dtype=torch.bool)),
        )


def test_a_grid_that_cannot_be_halved() -> None:
    with pytest.raises(UserError, match="multiples of 2") as error:
        _unet({})(torch.randn(1, 2, 4, 4, 5), torch.tensor([1]), Conditioning())
    assert "latent.size" in str(error.value)


def test_all_wrong_sizes_at_once() -> None:
    with pytest.raises(UserError) as error:
        _unet({"a.b": 2}, dims=4, channels=[6, 16], attention=[False, True, True], head_channels=5)
    text = str(error.value)
    for part in (
        "spatial_dims is 4",
        "2 levels, attention 3",
        "6 is not a multiple of norm_groups 4",
        "16 is not a multiple of head_channels 5",
        "'a.b' cannot name a vector",
    ):
        assert part in text
