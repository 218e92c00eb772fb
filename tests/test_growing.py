"""New inputs of a trained network start at zero: the first prediction is the trained network's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.testing.checks import perturb

SIZES: dict[str, dict[str, Any]] = {
    "maisi_unet": {
        "channels": [16, 32],
        "attention": [False, True],
        "head_channels": 8,
        "res_blocks": 1,
        "norm_groups": 8,
        "cross_attention": "added",
    },
    "dit3d": {"patch_size": 2, "width": 24, "depth": 2, "heads": 2},
    "ldm_unet": {"channels": [8, 16], "attention": [False, True], "norm_groups": 4},
}


def build(name: str, context: int | None, vectors: dict[str, int], seed: int) -> nn.Module:
    dims = 2 if name == "ldm_unet" else 3
    torch.manual_seed(seed)
    # In float64: in float32 a wider matrix sums in another order, which is rounding alone.
    made: nn.Module = registry.build(
        "backbones",
        Component(name=name, **SIZES[name]),
        spatial_dims=dims,
        in_channels=3,
        out_channels=3,
        input_size=[8] * dims,
        context_dim=context,
        vectors=vectors,
    )
    return made.eval().double()


def predict(
    network: nn.Module, dims: int, context: Tensor | None, new: dict[str, Tensor]
) -> Tensor:
    """Predict of the same noise at the same times and spacing, whatever else is told."""
    g = torch.Generator().manual_seed(4)
    x = torch.randn(2, 3, *[8] * dims, generator=g, dtype=torch.float64)
    spacing = torch.randn(2, 3, generator=g)
    told = Conditioning(context, None, {"spacing": spacing, **new})
    with torch.no_grad():
        made: Tensor = network(x, torch.tensor([10, 900]), told)
    return made


# ldm_unet's text is not added: diffusers names the attention of a U-Net without context otherwise.
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("maisi_unet", None, 6),
        ("maisi_unet", 6, 6),
        ("dit3d", None, 6),
        ("dit3d", 6, 6),
        ("ldm_unet", 6, 6),
        ("ldm_unet", None, None),
    ],
)
def test_the_first_prediction_is_the_trained_networks(
    name: str, before: int | None, after: int | None
) -> None:
    dims = 2 if name == "ldm_unet" else 3
    small, more = {"spacing": 3}, {"spacing": 3, "class": 2, "age": 2}
    trained = perturb(build(name, before, small, seed=1))
    wider = build(name, after, more, seed=2)
    grown, free = wider.grown(trained.state_dict())  # type: ignore[operator]
    missing, unexpected = wider.load_state_dict(grown, strict=False)
    assert set(missing) == free
    assert not unexpected
    g = torch.Generator().manual_seed(6)
    for _ in range(2):  # whatever the new inputs hold
        new = {n: 10 * torch.randn(2, k, generator=g) for n, k in more.items() if n != "spacing"}
        tokens = None if after is None else torch.randn(2, 5, after, generator=g)
        found = predict(wider, dims, tokens, new)
        expected = predict(trained, dims, tokens if before is not None else None, {})
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
        assert expected.abs().max() > 0.1


@pytest.mark.parametrize("name", ["maisi_unet", "dit3d"])
def test_what_is_new_learns(name: str) -> None:
    trained = perturb(build(name, None, {"spacing": 3}, seed=1))
    more = {"spacing": 3, "class": 2}
    wider = build(name, 6, more, seed=2)
    grown, _ = wider.grown(trained.state_dict())  # type: ignore[operator]
    wider.load_state_dict(grown, strict=False)
    g = torch.Generator().manual_seed(4)
    vectors = {n: torch.randn(2, k, generator=g) for n, k in more.items()}
    told = Conditioning(torch.randn(2, 5, 6, generator=g), None, vectors)
    x = torch.randn(2, 3, 8, 8, 8, generator=g)
    new = {n: p for n, p in wider.named_parameters() if n not in trained.state_dict()}
    for _ in range(3):  # the zeros open first, then what is read through them
        wider.zero_grad()
        wider(x, torch.tensor([3, 600]), told).square().mean().backward()
        with torch.no_grad():
            for parameter in wider.parameters():
                assert parameter.grad is not None
                parameter.sub_(parameter.grad, alpha=1e-2)
    assert any(".0.weight" in name for name in new)
    for parameter_name, parameter in new.items():
        assert parameter.any(), f"{parameter_name} stays at zero"
        assert parameter.grad is not None
        assert parameter.grad.any(), f"nothing reaches {parameter_name}"


def test_the_added_attention_is_a_backbone_like_any_other() -> None:
    """Names of the U-Net without context stay, and the mask of the context is kept to."""
    network = perturb(build("maisi_unet", 6, {"spacing": 3}, seed=1))
    plain = build("maisi_unet", None, {"spacing": 3}, seed=1)
    assert plain.state_dict().keys() < network.state_dict().keys()
    g = torch.Generator().manual_seed(4)
    x = torch.randn(1, 3, 8, 8, 8, generator=g, dtype=torch.float64)
    tokens = torch.randn(1, 5, 6, generator=g)
    spacing = {"spacing": torch.ones(1, 3)}
    mask = torch.tensor([[True, True, True, False, False]])
    with torch.no_grad():
        times = torch.tensor([500])
        short = network(x, times, Conditioning(tokens[:, :3], None, spacing))
        masked = network(x, times, Conditioning(tokens, mask, spacing))
        whole = network(x, times, Conditioning(tokens, None, spacing))
        network.set_gradient_checkpointing(True)  # type: ignore[operator]
        again = network(x, times, Conditioning(tokens, mask, spacing))
    torch.testing.assert_close(masked, short, atol=1e-5, rtol=0)
    assert (whole - short).abs().max() > 1e-3
    assert torch.equal(again, masked)


def test_a_vector_before_one_that_was_trained_is_not_grown() -> None:
    trained = build("maisi_unet", None, {"spacing": 3}, seed=1)
    wider = build("maisi_unet", None, {"class": 2, "spacing": 3}, seed=2)
    grown, free = wider.grown(trained.state_dict())  # type: ignore[operator]
    own = wider.state_dict()
    assert any(grown[name].shape != own[name].shape for name in grown)
    assert not free
