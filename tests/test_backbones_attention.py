"""Masked attention against torch's own multi-head attention."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from voxella_backbones.attention import Attention, PackedAttention, attend, pack_mask

WIDTH, HEADS, CONTEXT = 8, 2, 6


def _mask() -> Tensor:
    return torch.tensor([[True, True, True, False, False], [True] * 5])


def _attention(*, flash: bool, upcast: bool = False) -> Attention:
    torch.manual_seed(0)
    module = Attention.build(WIDTH, HEADS, CONTEXT)
    module.flash, module.upcast = flash, upcast
    return module


def _reference(ours: Attention) -> nn.MultiheadAttention:
    """torch's module with our weights."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, kdim=CONTEXT, vdim=CONTEXT, batch_first=True)
    parts = [ours.to_q, ours.to_k, ours.to_v]
    weights = [part.weight for part in parts if isinstance(part, nn.Linear)]
    biases: list[Tensor] = [part.bias for part in parts if isinstance(part, nn.Linear)]
    theirs.load_state_dict(
        {
            "q_proj_weight": weights[0],
            "k_proj_weight": weights[1],
            "v_proj_weight": weights[2],
            "in_proj_bias": torch.cat(biases),
            "out_proj.weight": ours.out_proj.weight,
            "out_proj.bias": ours.out_proj.bias,
        }
    )
    return theirs


@pytest.mark.parametrize(("flash", "upcast"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("masked", [True, False])
def test_equals_torchs_multihead_attention(flash: bool, upcast: bool, masked: bool) -> None:
    ours = _attention(flash=flash, upcast=upcast)
    x, context = torch.randn(2, 7, WIDTH), torch.randn(2, 5, CONTEXT)
    mask = _mask() if masked else None
    expected, _ = _reference(ours)(
        x, context, context, key_padding_mask=None if mask is None else ~mask
    )
    torch.testing.assert_close(ours(x, context, mask), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("flash", [True, False])
def test_masked_tokens_reach_neither_output_nor_gradient(flash: bool) -> None:
    module = _attention(flash=flash)
    x, context = torch.randn(2, 7, WIDTH), torch.randn(2, 5, CONTEXT).requires_grad_()
    out = module(x, context, _mask())
    disturbed = context.detach().clone()
    disturbed[0, 3:] = 1e4
    assert torch.equal(module(x, disturbed, _mask()), out)
    out.square().sum().backward()
    assert context.grad is not None
    assert torch.all(context.grad[0, 3:] == 0)
    assert torch.all(context.grad[0, :3].abs().sum(dim=-1) > 0)


@pytest.mark.parametrize("flash", [True, False])
def test_a_sample_without_tokens_attends_to_nothing(flash: bool) -> None:
    mask = torch.tensor([[False, False, False], [True, True, False]])
    q, k, v = (torch.randn(2, HEADS, n, 4, requires_grad=True) for n in (5, 3, 3))
    out = attend(q, k, v, mask, flash=flash, upcast=False)
    assert torch.all(out[0] == 0)
    assert torch.all(out[1] != 0)
    torch.autograd.backward(out.sum())
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_a_packed_mask_is_the_mask() -> None:
    plain = _attention(flash=True)
    packed = PackedAttention(
        plain.to_q, plain.to_k, plain.to_v, plain.out_proj, HEADS, context_width=CONTEXT
    )
    x, context = torch.randn(2, 7, WIDTH), torch.randn(2, 5, CONTEXT)
    # Packing widens a matrix by one column, so its product may be summed in another order.
    masked, bare = plain(x, context, _mask()), plain(x, context)
    torch.testing.assert_close(packed(x, pack_mask(context, _mask())), masked, rtol=0, atol=1e-6)
    torch.testing.assert_close(packed(x, pack_mask(context, None)), bare, rtol=0, atol=1e-6)
    assert (masked - bare).abs().max() > 1e-3


@pytest.mark.parametrize("flash", [True, False])
def test_float_queries_meet_bfloat16_values(flash: bool) -> None:
    q, k = torch.randn(1, 1, 3, 4), torch.randn(1, 1, 3, 4)
    v = torch.randn(1, 1, 3, 4).bfloat16()
    out = attend(q, k, v, None, flash=flash, upcast=True)
    assert out.dtype is torch.bfloat16
    exact = attend(q, k, v.float(), None, flash=flash, upcast=True)
    torch.testing.assert_close(out.float(), exact, atol=0.05, rtol=0.05)


def test_upcast_scores_stay_exact_under_autocast() -> None:
    # Scores near 300 that differ by one: bfloat16 steps by two there, float32 does not.
    q = torch.tensor([[[[300.0, 1.0]]]])
    k = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    v = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    expected = torch.tensor(2**-0.5).sigmoid()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        upcast = attend(q, k, v, None, flash=False, upcast=True)
        rough = attend(q, k, v, None, flash=False, upcast=False)
    assert abs(float(upcast[0, 0, 0, 0]) - float(expected)) < 5e-3
    assert abs(float(rough[0, 0, 0, 0]) - float(expected)) > 0.01
