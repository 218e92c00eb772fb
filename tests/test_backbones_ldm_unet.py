"""Latent diffusion's U-Net: the released network under its own names, counted, loaded strictly."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from compvis_reference import Tensors, unet
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from released_keys import KEYS, random_state, true_shapes, unet_shapes
from torch import Tensor, nn

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella.testing.runner import run_contract
from voxella.weights import compare_keys
from voxella_backbones.ldm.keys import convert_unet
from voxella_backbones.ldm.unet import LdmUNet
from voxella_backbones.plugin import build_ldm_unet

CONTEXT, LATENTS = 6, 3
SMALL: dict[str, Any] = {
    "channels": [8, 16, 24],
    "attention": [False, True, True],
    "norm_groups": 4,
}
# Parameter counts as measured on the released modules.
COUNTS = [
    ({}, 3, 512, 400_920_579),
    ({}, 4, 512, 400_924_036),
    (
        {"channels": [256, 512, 1024], "attention": [True] * 3, "heads": [8, 16, 32]},
        4,
        512,
        394_984_196,
    ),
    (
        {
            "channels": [320, 640, 1280, 1280],
            "attention": [True, True, True, False],
            "heads": 8,
        },
        4,
        768,
        859_520_964,
    ),
]


def _unet(
    context_dim: int | None = CONTEXT,
    vectors: Mapping[str, int] | None = None,
    latents: int = LATENTS,
    dims: int = 2,
    **changes: Any,
) -> LdmUNet:
    torch.manual_seed(0)
    module = build_ldm_unet(
        spatial_dims=dims,
        in_channels=latents,
        out_channels=latents,
        context_dim=context_dim,
        vectors=vectors or {},
        **(SMALL | changes),
    )
    assert isinstance(module, LdmUNet)
    return module.eval()


def _shapes(**changes: Any) -> dict[str, tuple[int, ...]]:
    sizes = {k: v for k, v in (SMALL | changes).items() if k in ("channels", "attention")}
    return unet_shapes(**sizes, res_blocks=2, context=CONTEXT, latents=LATENTS)


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, LATENTS, 8, 12, generator=generator)
    return x, torch.tensor([1, 981]), torch.randn(2, 5, CONTEXT, generator=generator)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_it_holds_its_contract() -> None:
    results = list(run_contract("backbones", "ldm_unet"))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 14


@pytest.mark.parametrize(("sizes", "latents", "context", "count"), COUNTS)
def test_parameters_are_as_many_as_released(
    sizes: dict[str, Any], latents: int, context: int, count: int
) -> None:
    with torch.device("meta"):
        module: Any = build_ldm_unet(
            spatial_dims=2,
            in_channels=latents,
            out_channels=latents,
            context_dim=context,
            vectors={},
            **sizes,
        )
    assert _count(module) == count


@pytest.mark.skipif(not KEYS.is_dir(), reason="the lists of released keys are not here")
def test_every_released_key_and_shape_has_its_place() -> None:
    true = true_shapes("ldm_unet_192.txt")
    assert len(true) == 688
    channels, attention = [192, 384, 576, 960], [False, True, True, True]
    by_rule = unet_shapes(channels, attention, res_blocks=2, context=512, latents=3)
    assert by_rule == true, "the tests' own rule is that of the released list"
    with torch.device("meta"):
        module: Any = build_ldm_unet(
            spatial_dims=2, in_channels=3, out_channels=3, context_dim=512, vectors={}
        )
        released = {name: torch.empty(shape) for name, shape in true.items()}
    assert compare_keys(module.unet.state_dict(), convert_unet(released, 2)).fits


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"channels": [8, 16], "attention": [True, True], "heads": [2, 4]},
        {"channels": [8, 16, 16], "attention": [True, False, False], "heads": 2},
    ],
)
def test_it_computes_what_the_formulas_say(tmp_path: Path, sizes: dict[str, Any]) -> None:
    state = random_state(_shapes(**sizes))
    path = tmp_path / "unet.ckpt"
    torch.save({"state_dict": {f"model.diffusion_model.{n}": v for n, v in state.items()}}, path)
    x, timesteps, context = _inputs()
    with torch.no_grad():
        found = _unet(weights=path, **sizes)(x, timesteps, Conditioning(context=context))
        theirs = Tensors(state, groups=4)
        heads = sizes.get("heads", 1)
        by_level = heads if isinstance(heads, list) else [heads] * 3
        expected = unet(theirs, x, timesteps, context, by_level)
    assert theirs.read == set(state), "the formulas read every tensor"
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_it_is_diffusers_own_network() -> None:
    theirs = UNet2DConditionModel(
        in_channels=LATENTS,
        out_channels=LATENTS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 24),
        layers_per_block=2,
        cross_attention_dim=CONTEXT,
        attention_head_dim=1,
        norm_num_groups=4,
    ).eval()
    state = random_state(_shapes())
    theirs.load_state_dict(convert_unet(state, 2), strict=True)
    ours = _unet()
    ours.unet.load_state_dict(convert_unet(state, 2), strict=True)
    x, timesteps, context = _inputs()
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    with torch.no_grad():
        expected = theirs(x, timesteps, context, encoder_attention_mask=mask).sample
        found = ours(x, timesteps, Conditioning(context=context, context_mask=mask))
        cut = ours(x[1:], timesteps[1:], Conditioning(context=context[1:, :3]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1:], cut, atol=1e-5, rtol=0)


def test_untrained_it_predicts_zero_and_its_branches_add_nothing() -> None:
    module = _unet(vectors={"age": 2})
    x, timesteps, context = _inputs()
    told = Conditioning(context=context, vectors={"age": torch.ones(2, 2)})
    assert not module(x, timesteps, told).any()
    state = module.state_dict()
    zero = {name for name, tensor in state.items() if name.endswith("weight") and not tensor.any()}
    ends = ("conv2.weight", "proj_out.weight", "conv_out.weight", "age_layer.2.weight")
    assert zero == {name for name in state if name.endswith(ends)}


def test_a_vector_leaves_pretrained_weights_as_they_are(tmp_path: Path) -> None:
    torch.save(random_state(_shapes()), tmp_path / "unet.pt")
    x, timesteps, context = _inputs()
    plain = _unet(weights=tmp_path / "unet.pt")
    told = _unet(weights=tmp_path / "unet.pt", vectors={"age": 2})
    age = Conditioning(context=context, vectors={"age": torch.ones(2, 2)})
    assert torch.equal(plain(x, timesteps, Conditioning(context=context)), told(x, timesteps, age))


@pytest.mark.parametrize("form", ["bare", "prefixed", "whole", "diffusers", "ours"])
def test_weights_are_taken_in_every_form_that_is_about(tmp_path: Path, form: str) -> None:
    state = random_state(_shapes())
    prefixed = {f"model.diffusion_model.{name}": value for name, value in state.items()}
    own = convert_unet(state, 2)
    forms = {
        "bare": state,
        "prefixed": prefixed,
        # As cin256-v2's: the class embedder, the first stage and the schedule beside the U-Net.
        "whole": {
            **prefixed,
            "cond_stage_model.embedding.weight": torch.zeros(1001, 512),
            "first_stage_model.quantize.embedding.weight": torch.zeros(4, 3),
            "betas": torch.zeros(1000),
        },
        "diffusers": own,
        "ours": {f"backbone.unet.{name}": value for name, value in own.items()},
    }
    path = tmp_path / "unet.ckpt"
    torch.save({"state_dict": forms[form]}, path)
    found = _unet(weights=path).unet.state_dict()
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], own[name]) for name in own)


def _another_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"diffusion_model.{name}": value for name, value in state.items()}


def _without_one(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name != "out.2.bias"}


def _with_the_class_embedder(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "cond_stage_model.embedding.weight": torch.zeros(1001, 512)}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_another_prefix, r"unknown: diffusion_model\.time_embed"),
        (_without_one, r"1 missing: conv_out\.bias"),
        (_with_the_class_embedder, r"1 unknown: cond_stage_model\.embedding\.weight"),
    ],
)
def test_what_the_released_loader_passes_over_is_refused(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    torch.save({"state_dict": spoil(random_state(_shapes()))}, tmp_path / "unet.ckpt")
    with pytest.raises(UserError, match=message):
        _unet(weights=tmp_path / "unet.ckpt")


def test_another_context_width_is_told_by_shape(tmp_path: Path) -> None:
    torch.save(random_state(_shapes()), tmp_path / "unet.pt")
    with pytest.raises(UserError, match=r"of another shape: .*attn2\.to_k\.weight \(16, 6\)"):
        _unet(context_dim=7, weights=tmp_path / "unet.pt")


def test_sizes_that_do_not_fit_are_named_at_once() -> None:
    with pytest.raises(UserError) as error:
        _unet(channels=[6, 16], attention=[True] * 3, heads=[1, 3], vectors={"a b": 1})
    text = str(error.value)
    assert "channels has 2 levels, attention 3, heads 2" in text
    assert "6 is not a multiple of norm_groups 4" in text
    assert "heads: 3 do not divide the width 16" in text
    assert "'a b' cannot name a vector" in text
    with pytest.raises(UserError, match=r"3 spatial dimensions\n  expected: 2"):
        _unet(dims=3)
    with pytest.raises(UserError, match=r"\(6, 8\) cannot be halved 2 times"):
        _unet()(torch.zeros(1, 3, 6, 8), torch.tensor([1]), Conditioning())


def test_checkpointing_keeps_the_autocast_state() -> None:
    # The released code's own checkpointing loses it: "Found dtype Float but expected BFloat16".
    module = _unet().train()
    module.unet.load_state_dict(convert_unet(random_state(_shapes()), 2))
    x, timesteps, context = _inputs()
    gradients = []
    for enabled in (False, True):
        module.set_gradient_checkpointing(enabled)
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            module(x, timesteps, Conditioning(context=context)).float().square().mean().backward()
        gradient = module.unet.conv_in.weight.grad
        assert gradient is not None
        gradients.append(gradient.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_it_can_be_copied_and_pickled_with_checkpointing_on() -> None:
    module = _unet()
    module.set_gradient_checkpointing(True)
    x, timesteps, context = _inputs()
    told = Conditioning(context=context)
    expected = module(x, timesteps, told)
    for counterpart in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(counterpart(x, timesteps, told), expected)


def test_a_cast_model_takes_float_latents() -> None:
    module = _unet().bfloat16()
    x, timesteps, context = _inputs()
    mask = torch.ones(2, 5, dtype=torch.bool)
    found = module(x, timesteps, Conditioning(context=context, context_mask=mask))
    assert found.dtype is torch.float32


def test_the_file_is_read_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "unet.ckpt"
    torch.save({"state_dict": random_state(_shapes())}, path)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    _unet(weights=path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def test_without_context_each_level_has_the_heads_of_its_own_width() -> None:
    sizes = {"channels": [8, 16, 24], "attention": [True, True, True], "heads": [1, 2, 3]}
    unet = LdmUNet(
        spatial_dims=2, in_channels=3, out_channels=3, context_dim=None, vectors={},
        res_blocks=1, norm_groups=4, **sizes,  # type: ignore[arg-type] # by name
    ).unet  # fmt: skip
    found = [
        (module.query_dim, module.inner_dim, module.heads, module.scale)
        for module in unet.modules()
        if isinstance(module, Attention)
    ]
    # One on the way down, two on the way up at each level, and the middle: heads are 8 wide.
    expected = [(w, w, w // 8, 8**-0.5) for w in (8, 16, 24, 24, 24, 16, 16, 8, 8, 24)]
    assert sorted(found) == sorted(expected)
