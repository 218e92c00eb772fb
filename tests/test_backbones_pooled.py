"""dit3d's pooled context, and attention written out where the fused kernel is slower."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxella.conditioning import Conditioning
from voxella_backbones.attention import attend
from voxella_backbones.inputs import mean_token
from voxella_backbones.plugin import build_dit3d


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_mean_is_of_real_tokens_alone() -> None:
    tokens = random(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    found = mean_token(tokens, mask)
    torch.testing.assert_close(found[0], tokens[0, :2].mean(0))
    torch.testing.assert_close(found[1], tokens[1].mean(0))
    torch.testing.assert_close(mean_token(tokens, None), tokens.mean(1))


@pytest.mark.parametrize("pooled", [False, True])
def test_a_pooled_context_changes_the_signal(pooled: bool) -> None:
    torch.manual_seed(0)
    built = build_dit3d(
        spatial_dims=3,
        in_channels=2,
        out_channels=2,
        input_size=(2, 2, 2),
        context_dim=8,
        vectors={},
        patch_size=1,
        width=12,
        depth=1,
        heads=2,
        pooled_context=pooled,
    )
    assert isinstance(built, nn.Module)
    # The end alone listens: what the text says can come through the pooled mean only.
    nn.init.normal_(built.get_parameter("final_modulation.weight"))
    nn.init.normal_(built.get_parameter("final_linear.weight"))
    x, t = random(1, 2, 2, 2, 2), torch.tensor([5])
    first, second = (
        built(x, t, Conditioning(context=random(1, 3, 8, seed=seed))) for seed in (1, 2)
    )
    assert torch.equal(first, second) is not pooled


def test_written_out_is_what_the_fused_kernel_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (random(2, 2, 5, 8, seed=n).bfloat16() for n in range(3))
    mask = torch.tensor([[True] * 4 + [False], [True] * 5])
    written = attend(query, key, value, mask, flash=True, upcast=False)
    with torch.no_grad():
        fused = attend(query, key, value, mask, flash=True, upcast=False)
    torch.testing.assert_close(written, fused, atol=0.03, rtol=0.03)
    calls: list[int] = []
    genuine = functional.scaled_dot_product_attention

    def counted(*args: Tensor, attn_mask: Tensor) -> Tensor:
        calls.append(1)
        return genuine(args[0], args[1], args[2], attn_mask=attn_mask)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    attend(query, key, value, mask, flash=True, upcast=False)
    assert calls == []  # training in bfloat16 on the CPU
    attend(query.float(), key.float(), value.float(), mask, flash=True, upcast=False)
    with torch.no_grad():
        attend(query, key, value, mask, flash=True, upcast=False)
    assert len(calls) == 2
