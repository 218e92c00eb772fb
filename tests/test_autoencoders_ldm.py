"""The first stages of latent diffusion: the released networks, and how a codebook learns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from compvis_reference import Tensors, decoder, encoder, quantise
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from monai.data import MetaTensor
from released_keys import KEYS, Shapes, first_stage_shapes, random_state, true_shapes
from torch import Tensor, nn

from voxella.autoencoder.patches import PatchBatch
from voxella.autoencoder.task import AutoencoderTask, autocast
from voxella.errors import UserError
from voxella.recipe.model import AutoencoderTraining
from voxella.testing.runner import run_contract
from voxella.weights import compare_keys
from voxella_backbones.autoencoder_plugin import build_kl2d, build_vq
from voxella_backbones.ldm.codebook import Codebook, codebook_loss, nearest_codes, straight_through
from voxella_backbones.ldm.keys import convert_first_stage
from voxella_backbones.ldm.kl2d import KL2d
from voxella_backbones.ldm.vq import VQ

SMALL: dict[str, Any] = {"channels": [8, 12, 16], "norm_groups": 4}
CODES = 32
# As measured on the released modules.
F8 = {"channels": [128, 256, 256, 512], "attention": [False, False, False, True], "codes": 16384}
VQ_COUNTS = [({}, 3, 55_322_782), (F8, 4, 67_717_295)]
KL_COUNTS = [({"channels": [128, 256, 512]}, 3, 55_312_063), ({}, 4, 83_653_863)]


def _vq(in_channels: int = 3, latent_channels: int = 3, dims: int = 2, **changes: Any) -> VQ:
    torch.manual_seed(0)
    module = build_vq(
        spatial_dims=dims,
        in_channels=in_channels,
        latent_channels=latent_channels,
        **(SMALL | {"codes": CODES} | changes),
    )
    assert isinstance(module, VQ)
    return module


def _kl(dims: int = 2, **changes: Any) -> KL2d:
    torch.manual_seed(0)
    module = build_kl2d(spatial_dims=dims, in_channels=3, latent_channels=3, **(SMALL | changes))
    assert isinstance(module, KL2d)
    return module


def _shapes(codes: int | None = CODES, **changes: Any) -> Shapes:
    sizes = {"channels": SMALL["channels"], "attention": [False] * 3} | changes
    return first_stage_shapes(**sizes, res_blocks=2, latents=3, codes=codes)


def _images(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(2, 3, *(size or (16, 24)), generator=generator)


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", ["vq", "kl2d"])
def test_it_holds_its_contract(name: str) -> None:
    results = list(run_contract("autoencoders", name))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 8


@pytest.mark.parametrize(
    ("build", "sizes", "latents", "count"),
    [(build_vq, *row) for row in VQ_COUNTS] + [(build_kl2d, *row) for row in KL_COUNTS],
)
def test_parameters_are_as_many_as_released(
    build: Any, sizes: Mapping[str, Any], latents: int, count: int
) -> None:
    with torch.device("meta"):
        module = build(spatial_dims=2, in_channels=3, latent_channels=latents, **sizes)
    assert _count(module) == count


def test_the_parts_of_vq_f4_are_as_large_as_released() -> None:
    with torch.device("meta"):
        module: Any = build_vq(spatial_dims=2, in_channels=3, latent_channels=3)
    parts = {name: _count(part) for name, part in module.named_children()}
    assert parts == {
        "encoder": 22_337_411,
        "decoder": 32_960_771,
        "quantize": 24_576,
        "quant_conv": 12,
        "post_quant_conv": 12,
    }
    assert module.factor == 4


@pytest.mark.skipif(not KEYS.is_dir(), reason="the lists of released keys are not here")
@pytest.mark.parametrize(
    ("name", "sizes", "latents", "extra"),
    [("ldm_vq_f4.txt", {}, 3, [False] * 3), ("ldm_vq_f8.txt", F8, 4, F8["attention"])],
)
def test_every_released_key_and_shape_has_its_place(
    name: str, sizes: dict[str, Any], latents: int, extra: list[bool]
) -> None:
    true = true_shapes(name)
    channels = sizes.get("channels", [128, 256, 512])
    by_rule = first_stage_shapes(
        channels, extra, res_blocks=2, latents=latents, codes=sizes.get("codes", 8192)
    )
    assert by_rule == true, "the tests' own rule is that of the released list"
    with torch.device("meta"):
        module: Any = build_vq(spatial_dims=2, in_channels=3, latent_channels=latents, **sizes)
        released = {key: torch.empty(shape) for key, shape in true.items()}
    assert compare_keys(module.state_dict(), convert_first_stage(released, len(channels))).fits


@pytest.mark.parametrize(
    "sizes",
    [{}, {"channels": [8, 12, 12, 16], "attention": [False, False, False, True]}],
)
def test_vq_computes_what_the_formulas_say(tmp_path: Path, sizes: dict[str, Any]) -> None:
    state = random_state(_shapes(**sizes))
    torch.save({"state_dict": state}, tmp_path / "vq.ckpt")
    module = _vq(weights=tmp_path / "vq.ckpt", **sizes).train()
    images, theirs = _images(), Tensors(state, groups=4)
    with torch.no_grad():
        latent, sigma = module.encode(images)
        expected = encoder(theirs, 2 * images - 1)
        torch.testing.assert_close(latent, expected, atol=1e-5, rtol=0)
        decoded = (decoder(theirs, quantise(theirs, expected)) + 1) / 2
        torch.testing.assert_close(module.decode(expected), decoded, atol=1e-5, rtol=0)
    assert sigma is None
    assert theirs.read == set(state), "the formulas read every tensor"
    assert expected.std() > 0.1
    assert decoded.std() > 0.1


def test_kl_computes_what_the_formulas_say(tmp_path: Path) -> None:
    state = random_state(_shapes(codes=None))
    torch.save({"state_dict": state}, tmp_path / "kl.ckpt")
    module = _kl(weights=tmp_path / "kl.ckpt").train()
    images, theirs = _images(), Tensors(state, groups=4)
    with torch.no_grad():
        mean, log_sigma = module.encode(images)
        expected, log_variance = encoder(theirs, 2 * images - 1).chunk(2, dim=1)
        torch.testing.assert_close(mean, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(log_sigma, log_variance / 2, atol=1e-5, rtol=0)
        decoded = (decoder(theirs, expected) + 1) / 2
        torch.testing.assert_close(module.decode(expected), decoded, atol=1e-5, rtol=0)
    assert theirs.read == set(state)


def test_they_are_diffusers_own_networks() -> None:
    sizes: dict[str, Any] = {
        "block_out_channels": (8, 12, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 2,
        "latent_channels": 3,
        "norm_num_groups": 4,
    }
    images = _images()
    vq = VQModel(**sizes, num_vq_embeddings=CODES, vq_embed_dim=3, scaling_factor=1.0).eval()
    state = convert_first_stage(random_state(_shapes()), 3)
    vq.load_state_dict(state, strict=True)
    ours: nn.Module = _vq()
    ours.load_state_dict(state, strict=True)
    assert isinstance(ours, VQ)
    with torch.no_grad():
        latent = vq.encode(2 * images - 1).latents
        torch.testing.assert_close(ours.encode(images)[0], latent, atol=1e-5, rtol=0)
        expected = (vq.decode(latent).sample + 1) / 2
        torch.testing.assert_close(ours.train().decode(latent), expected, atol=1e-5, rtol=0)
    kl = AutoencoderKL(**sizes).eval()
    state = convert_first_stage(random_state(_shapes(codes=None)), 3)
    kl.load_state_dict(state, strict=True)
    other: nn.Module = _kl()
    other.load_state_dict(state, strict=True)
    assert isinstance(other, KL2d)
    with torch.no_grad():
        posterior = kl.encode(2 * images - 1).latent_dist
        mean, log_sigma = other.encode(images)
        torch.testing.assert_close(mean, posterior.mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(log_sigma.exp(), posterior.std, atol=1e-5, rtol=0)
        expected = (kl.decode(mean).sample + 1) / 2
        torch.testing.assert_close(other.train().decode(mean), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("form", ["bare", "with losses", "whole", "diffusers"])
def test_weights_are_taken_in_every_form_that_is_about(tmp_path: Path, form: str) -> None:
    state = random_state(_shapes())
    forms: dict[str, Mapping[str, Tensor]] = {
        "bare": state,
        "with losses": {
            **state,
            "loss.perceptual_loss.lin0.model.1.weight": torch.zeros(1, 64, 1, 1),
            "loss.discriminator.main.0.weight": torch.zeros(64, 3, 4, 4),
        },
        # The only file that holds PathLDM's own VQ-f4 is that of its diffusion model.
        "whole": {
            **{f"first_stage_model.{name}": value for name, value in state.items()},
            "model.diffusion_model.out.2.bias": torch.zeros(3),
            "betas": torch.zeros(1000),
        },
        "diffusers": convert_first_stage(state, 3),
    }
    path = tmp_path / "vq.ckpt"
    torch.save({"state_dict": forms[form]}, path)
    module = _vq(weights=path)
    assert module.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = convert_first_stage(state, 3)
    found = module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("quantize.embedding.weight", r"1 missing: quantize\.embedding\.weight"),
        (
            "encoder.down.3.attn.0.q.weight",
            r"missing: encoder\.down_blocks\.3\.attentions\.0\.to_q",
        ),
        (
            "decoder.up.3.attn.2.norm.bias",
            r"missing: decoder\.up_blocks\.0\.attentions\.2\.group_n",
        ),
    ],
)
def test_what_a_converter_may_leave_out_is_missed(tmp_path: Path, lost: str, message: str) -> None:
    # diffusers' own converter drops the codebook and passes over the attention of VQ-f8's levels.
    sizes: dict[str, Any] = {
        "channels": [8, 12, 12, 16],
        "attention": [False, False, False, True],
    }
    state = random_state(_shapes(**sizes))
    del state[lost]
    torch.save(state, tmp_path / "vq.pt")
    with pytest.raises(UserError, match=message):
        _vq(weights=tmp_path / "vq.pt", **sizes)


def test_another_first_stage_is_refused(tmp_path: Path) -> None:
    torch.save(random_state(_shapes(codes=None)), tmp_path / "kl.pt")
    with pytest.raises(
        UserError, match=r"missing: quantize\.embedding\.weight(.|\n)*another shape"
    ):
        _vq(weights=tmp_path / "kl.pt")
    torch.save(random_state(_shapes()), tmp_path / "vq.pt")
    with pytest.raises(UserError, match=r"unknown: quantize\.embedding\.weight"):
        _kl(weights=tmp_path / "vq.pt")


def test_the_nearest_code_is_nearest_whatever_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(8)
    latents = torch.randn(2, 3, 5, 7, generator=generator)
    codes = torch.randn(50, 3, generator=generator)
    distances = (latents.movedim(1, -1)[..., None, :] - codes).square().sum(dim=-1)
    expected = distances.argmin(dim=-1)
    assert torch.equal(nearest_codes(latents, codes), expected)
    monkeypatch.setattr("voxella_backbones.ldm.codebook._DISTANCES", 300)
    assert torch.equal(nearest_codes(latents, codes), expected)


def test_the_loss_is_weighed_as_published_or_as_released() -> None:
    z = torch.tensor([[[[0.5]], [[0.0]]]], requires_grad=True)
    book = Codebook(2, 2)
    with torch.no_grad():
        book.weight.copy_(torch.tensor([[1.0, 0.0], [-9.0, 0.0]]))
    for legacy, of_code, of_latent in ((False, 1.0, 0.25), (True, 0.25, 1.0)):
        book.weight.grad, z.grad = None, None
        loss = codebook_loss(z, book(z), commitment=0.25, legacy=legacy)
        # |z - e|^2 is 0.25 over two channels; each term has its gradient on one side only.
        torch.testing.assert_close(loss.detach(), torch.tensor(1.25 * 0.125))
        torch.autograd.backward(loss)
        assert book.weight.grad is not None
        assert z.grad is not None
        assert book.weight.grad[0, 0] == pytest.approx(of_code * 0.5)
        assert z.grad[0, 0, 0, 0] == pytest.approx(of_latent * -0.5)
        assert not book.weight.grad[1].any()


def test_the_released_order_is_diffusers_own() -> None:
    vq = VQModel(block_out_channels=(8,), norm_num_groups=4, num_vq_embeddings=CODES).eval()
    z = torch.randn(2, 3, 4, 4)
    chosen, expected, _ = vq.quantize(z)
    book = Codebook(CODES, 3)
    with torch.no_grad():
        book.weight.copy_(vq.quantize.embedding.weight)
    found = codebook_loss(z, book(z), commitment=0.25, legacy=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(book(z), chosen)


def test_gradients_pass_the_quantiser_as_if_it_were_not_there() -> None:
    z = torch.randn(1, 3, 4, 4, requires_grad=True)
    book = Codebook(CODES, 3)
    weights = torch.randn(1, 3, 4, 4)
    out = straight_through(z, book(z))
    torch.testing.assert_close(out.detach(), book(z).detach())
    torch.autograd.backward((out * weights).sum())
    assert z.grad is not None
    torch.testing.assert_close(z.grad, weights)
    assert book.weight.grad is None, "the reconstruction moves no code"


def test_latents_are_continuous_and_images_are_of_codes() -> None:
    module = _vq().eval()
    with torch.no_grad():
        latent, _ = module.encode(_images())
        moved = module.quantize["embedding"](latent)
        assert torch.equal(module.decode(latent), module.decode(moved))
    pixels = latent.movedim(1, -1).reshape(-1, 3).tolist()
    assert len({tuple(pixel) for pixel in pixels}) > CODES


def test_images_are_clipped_when_evaluating_and_not_when_training() -> None:
    module = _kl()
    latents = torch.randn(1, 3, 4, 4) * 100
    raw = module.train().decode(latents)
    assert raw.min() < 0
    assert torch.equal(module.eval().decode(latents), raw.clamp(0, 1))


def test_metatensors_come_out_plain_and_a_cast_model_takes_float_images() -> None:
    module = _vq()
    images = _images()
    assert type(module.encode(MetaTensor(images))[0]) is torch.Tensor
    half = module.bfloat16()
    latent, _ = half.encode(images)
    assert latent.dtype is torch.bfloat16
    assert half.decode(latent).dtype is torch.bfloat16


def test_a_codebook_and_its_network_learn_an_image() -> None:
    settings = AutoencoderTraining(steps=1)
    module = _vq(codes=16).train()
    task = AutoencoderTask(module, settings, autocast(settings, torch.device("cpu")))
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3, weight_decay=0.0)
    smooth = nn.functional.interpolate(_images(4, 4), size=(16, 16), mode="bilinear")
    noise = torch.zeros(2, 3, 4, 4)
    batch = PatchBatch(("a", "b"), smooth, noise, step=0, weight=1.0)
    codes = module.state_dict()["quantize.embedding.weight"].clone()
    losses = []
    for _ in range(80):
        found = task(batch)
        optimizer.zero_grad()
        found["total"].backward()
        optimizer.step()
        losses.append({name: float(found[name]) for name in ("l1", "codebook", "loss")})
    assert losses[0]["loss"] == pytest.approx(losses[0]["l1"] + losses[0]["codebook"], rel=1e-5)
    assert losses[-1]["l1"] < 0.5 * losses[0]["l1"]
    moved = (module.state_dict()["quantize.embedding.weight"] - codes).abs().amax(dim=1) > 1e-3
    assert moved.sum() >= 2, "several codes are used"


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"vq: channels \[6, 8\] with norm_groups 4"):
        _vq(channels=[6, 8])
    with pytest.raises(UserError, match=r"kl2d: 3 spatial dimensions\n  expected: 2"):
        _kl(dims=3)
    with pytest.raises(UserError, match="channels has 3 levels, attention 1"):
        _vq(attention=[True])
    with pytest.raises(UserError, match="vq: a codebook of 1"):
        _vq(codes=1)
    with pytest.raises(UserError, match="multiples of 4 along each axis"):
        _vq().encode(torch.rand(1, 3, 8, 6))
