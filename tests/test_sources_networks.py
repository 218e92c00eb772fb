"""Sources of denoisers, first stages, text encoders, classifiers and feature networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers import UNet2DConditionModel
from inception_weights import HEAD
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from released_keys import KEYS, first_stage_shapes, random_state, true_shapes, unet_shapes
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    ResNetConfig,
    ResNetForImageClassification,
)

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella.metrics.features.inception import Inception
from voxella.metrics.features.medicalnet import medicalnet_resnet
from voxella.metrics.features.radimagenet import KerasResNet
from voxella.plugins import registry
from voxella.plugins.component import Component
from voxella.plugins.contracts import Released, Source
from voxella.testing import SourceContract
from voxella.weights import compare_keys
from voxella_backbones.autoencoder_plugin import build_maisi as build_maisi_autoencoder
from voxella_backbones.autoencoder_plugin import build_vq
from voxella_backbones.plugin import build_ldm_unet, build_maisi_unet
from voxella_classifiers.resnet import resnet

State = dict[str, Tensor]
CHANNELS, ATTENTION, CONTEXT = [8, 16, 16], [False, True, True], 6
STAGE = [8, 12, 16]


def read(name: str, path: Path) -> Released:
    source: Source = registry.build("sources", Component(name=name))
    return source.read(path)


def light(shapes: dict[str, Any]) -> State:
    """Tensors of any shape that take no room, in memory nor in a file."""
    return {name: torch.zeros(()).expand(tuple(shape)) for name, shape in shapes.items()}


def meta(build: Callable[[], Any]) -> nn.Module:
    with torch.device("meta"):
        module = build()
    assert isinstance(module, nn.Module)
    return module


def whole_ldm() -> State:
    """The three parts of a checkpoint like PathLDM's, small, with what lies beside them."""
    unet = random_state(
        unet_shapes(CHANNELS, ATTENTION, res_blocks=2, context=CONTEXT, latents=3), 1
    )
    stage = random_state(first_stage_shapes(STAGE, [False] * 3, res_blocks=2, latents=3, codes=16))
    text = clip_model().text_model.state_dict()
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
    state |= {f"first_stage_model.{name}": tensor for name, tensor in stage.items()}
    state |= {f"cond_stage_model.transformer.text_model.{n}": t for n, t in text.items()}
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(9)
    return state | {"betas": torch.ones(4), "logvar": torch.ones(4)}


def clip_model() -> CLIPModel:
    torch.manual_seed(4)
    sizes = {"hidden_size": 6, "intermediate_size": 8, "num_hidden_layers": 2}
    text = {**sizes, "num_attention_heads": 2, "vocab_size": 11, "max_position_embeddings": 9}
    image = {**sizes, "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image)).eval()


def clip_text_config() -> CLIPTextConfig:
    return clip_model().config.text_config


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    torch.save({"state_dict": whole_ldm(), "global_step": 9}, folder / "ldm.ckpt")
    whole = {f"text_model.{n}": t for n, t in clip_model().text_model.state_dict().items()}
    save_file({**whole, "logit_scale": torch.ones(1)}, folder / "clip.safetensors")
    small = DiffusionModelUNetMaisi(3, 2, 2, 1, (4, 8), (False, True), 4, num_head_channels=4)
    torch.save({"unet_state_dict": small.state_dict()}, folder / "maisi.pt")
    torch.save(resnet(2, 3, 4, 18, [2, 2, 2, 2]).state_dict(), folder / "torchvision.pth")  # type: ignore[attr-defined] # a module
    torch.save({"state_dict": light(_shapes(meta(medicalnet_resnet)))}, folder / "medicalnet.pth")
    torch.save(light(_shapes(meta(KerasResNet))), folder / "radimagenet.pth")
    torch.save(light(_shapes(meta(Inception)) | HEAD), folder / "inception.pth")
    return {path.stem: path for path in folder.iterdir()}


def _shapes(module: nn.Module) -> dict[str, Any]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


class _OnItsFile(SourceContract):
    @pytest.fixture(autouse=True)
    def _its_file(self, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(self), "file", files[self.plugin])


class TestMaisi(_OnItsFile):
    plugin: ClassVar[str] = "maisi"


class TestLdm(_OnItsFile):
    plugin: ClassVar[str] = "ldm"


class TestClip(_OnItsFile):
    plugin: ClassVar[str] = "clip"


class TestTorchvision(_OnItsFile):
    plugin: ClassVar[str] = "torchvision"


class TestMedicalnet(_OnItsFile):
    plugin: ClassVar[str] = "medicalnet"


class TestRadimagenet(_OnItsFile):
    plugin: ClassVar[str] = "radimagenet"


class TestInception(_OnItsFile):
    plugin: ClassVar[str] = "inception"


# As in the configurations of the releases, less what is not in the weights.
MAISI = {
    "spatial_dims": 3,
    "in_channels": 4,
    "out_channels": 4,
    "num_channels": [64, 128, 256, 512],
    "attention_levels": [False, False, True, True],
    "num_head_channels": [0, 0, 32, 32],
    "num_res_blocks": 2,
    "include_spacing_input": True,
}
DDPM = {"include_top_region_index_input": True, "include_bottom_region_index_input": True}
FLOW = {"num_class_embeds": 128, "resblock_updown": True, "include_fc": True}


@pytest.mark.parametrize(
    ("theirs", "vectors", "own"),
    [
        (DDPM, {"top_region": 4, "bottom_region": 4, "spacing": 3}, {}),
        (FLOW, {"modality": 2, "spacing": 3}, FLOW | {"class_vector": "modality"}),
        (
            FLOW | {"use_combined_linear": True},
            {"m": 2, "spacing": 3},
            FLOW | {"class_vector": "m"},
        ),
    ],
)
def test_every_key_of_maisis_denoisers_has_its_place(
    theirs: dict[str, Any], vectors: dict[str, int], own: dict[str, Any], tmp_path: Path
) -> None:
    released = meta(lambda: DiffusionModelUNetMaisi(**MAISI, **theirs))
    content = {"unet_state_dict": light(_shapes(released)), "scale_factor": torch.tensor(1.05)}
    torch.save(content, tmp_path / "unet.pt")
    found = read("maisi", tmp_path / "unet.pt")
    assert found.latent_scale == pytest.approx(1.05)
    ours = meta(
        lambda: build_maisi_unet(
            spatial_dims=3, in_channels=4, out_channels=4, context_dim=None, vectors=vectors, **own
        )
    )
    report = compare_keys(ours.state_dict(), found.parts["backbone"])
    assert report.problems == []
    assert len(report.matched) > 200
    told = any("maisi_flow" in remark for remark in found.remarks)
    assert told is ("num_class_embeds" in theirs)


@pytest.mark.parametrize("splitting", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
def test_every_key_of_maisis_autoencoder_has_its_place(
    splitting: bool, wrapped: bool, tmp_path: Path
) -> None:
    released = meta(
        lambda: AutoencoderKlMaisi(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            latent_channels=4,
            num_channels=[64, 128, 256],
            num_res_blocks=[2, 2, 2],
            norm_num_groups=32,
            attention_levels=[False, False, False],
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
    )
    shapes = _shapes(released)
    if not splitting:  # as in the first release
        shapes = {
            n.replace(".conv.conv.", ".conv.") if n[0] in "ed" else n: s for n, s in shapes.items()
        }
    state = light(shapes)
    torch.save({"unet_state_dict": state} if wrapped else state, tmp_path / "autoencoder.pt")
    found = read("maisi", tmp_path / "autoencoder.pt")
    ours = meta(lambda: build_maisi_autoencoder(spatial_dims=3, in_channels=1, latent_channels=4))
    assert compare_keys(ours.state_dict(), found.parts["autoencoder"]).problems == []


def test_one_matrix_for_queries_keys_and_values_gives_the_same_noise(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "spatial_dims": 3, "in_channels": 2, "out_channels": 2, "num_res_blocks": 1,
        "num_channels": (8, 16), "attention_levels": (False, True), "norm_num_groups": 4,
        "num_head_channels": 4, "include_spacing_input": True, "include_fc": True,
    }  # fmt: skip
    torch.manual_seed(0)
    theirs = DiffusionModelUNetMaisi(**sizes, use_combined_linear=True).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    torch.save({"unet_state_dict": theirs.state_dict()}, tmp_path / "unet.pt")
    ours: Any = build_maisi_unet(
        spatial_dims=3, in_channels=2, out_channels=2, context_dim=None, vectors={"spacing": 3},
        channels=[8, 16], attention=[False, True], head_channels=4, res_blocks=1, norm_groups=4,
        include_fc=True,
    )  # fmt: skip
    ours.load_state_dict(dict(read("maisi", tmp_path / "unet.pt").parts["backbone"]))
    x, steps, spacing = torch.randn(2, 2, 4, 4, 4), torch.tensor([3, 800]), torch.rand(2, 3)
    with torch.no_grad():
        expected = theirs(x, steps, spacing_tensor=spacing)
        made = ours(x, steps, Conditioning(vectors={"spacing": spacing}))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_all_parts_of_one_checkpoint_are_found(files: dict[str, Path]) -> None:
    found = read("ldm", files["ldm"])
    assert found.parts.keys() == {"backbone", "autoencoder", "text_encoder"}
    assert found.step == 9
    assert found.remarks == ["left out, of no part: betas, logvar"]
    ours = meta(
        lambda: build_ldm_unet(
            spatial_dims=2, in_channels=3, out_channels=3, context_dim=CONTEXT, vectors={},
            channels=CHANNELS, attention=ATTENTION, norm_groups=4,
        )
    )  # fmt: skip
    assert compare_keys(ours.state_dict(), found.parts["backbone"]).problems == []
    coder = meta(
        lambda: build_vq(
            spatial_dims=2, in_channels=3, latent_channels=3, channels=STAGE, codes=16,
            norm_groups=4,
        )
    )  # fmt: skip
    assert compare_keys(coder.state_dict(), found.parts["autoencoder"]).problems == []
    own = {f"text_model.{name}" for name in clip_model().text_model.state_dict()}
    assert set(found.parts["text_encoder"]) == own


def test_the_denoiser_of_a_checkpoint_is_diffusers_own(files: dict[str, Path]) -> None:
    theirs = UNet2DConditionModel(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=tuple(CHANNELS),
        layers_per_block=2,
        cross_attention_dim=CONTEXT,
        attention_head_dim=1,
        norm_num_groups=4,
    ).eval()
    state = read("ldm", files["ldm"]).parts["backbone"]
    theirs.load_state_dict({name.removeprefix("unet."): t for name, t in state.items()})
    ours: Any = build_ldm_unet(
        spatial_dims=2, in_channels=3, out_channels=3, context_dim=CONTEXT, vectors={},
        channels=CHANNELS, attention=ATTENTION, norm_groups=4,
    )  # fmt: skip
    ours.load_state_dict(dict(state))
    x, steps, context = torch.randn(2, 3, 8, 8), torch.tensor([1, 981]), torch.randn(2, 5, CONTEXT)
    with torch.no_grad():
        expected = theirs(x, steps, context).sample
        made = ours.eval()(x, steps, Conditioning(context=context))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_a_table_of_classes_is_the_conditioners(tmp_path: Path) -> None:
    state = {name: t for name, t in whole_ldm().items() if not name.startswith("cond_stage_model")}
    state["cond_stage_model.embedding.weight"] = torch.ones(5, CONTEXT)
    torch.save({"state_dict": state}, tmp_path / "cin.ckpt")
    parts = read("ldm", tmp_path / "cin.ckpt").parts
    assert parts.keys() == {"backbone", "autoencoder", "conditioner"}
    assert parts["conditioner"].keys() == {"embedding.weight"}


@pytest.mark.skipif(not KEYS.is_dir(), reason="the lists of released keys are not here")
def test_every_released_key_of_latent_diffusion_has_its_place(tmp_path: Path) -> None:
    lists = {"model.diffusion_model.": "ldm_unet_192.txt", "first_stage_model.": "ldm_vq_f4.txt"}
    state = {
        f"{prefix}{name}": torch.zeros(1).expand(shape)
        for prefix, file in lists.items()
        for name, shape in true_shapes(file).items()
    }
    torch.save({"state_dict": state}, tmp_path / "whole.ckpt")
    parts = read("ldm", tmp_path / "whole.ckpt").parts
    sizes: dict[str, Any] = {"spatial_dims": 2, "in_channels": 3}
    unet = meta(lambda: build_ldm_unet(**sizes, out_channels=3, context_dim=512, vectors={}))
    assert compare_keys(unet.state_dict(), parts["backbone"]).problems == []
    coder = meta(lambda: build_vq(**sizes, latent_channels=3))
    assert compare_keys(coder.state_dict(), parts["autoencoder"]).problems == []


@pytest.mark.parametrize(("name", "file"), [("f4", "ldm_vq_f4.txt"), ("f8", "ldm_vq_f8.txt")])
@pytest.mark.skipif(not KEYS.is_dir(), reason="the lists of released keys are not here")
def test_a_first_stage_alone_tells_its_levels(name: str, file: str, tmp_path: Path) -> None:
    torch.save({"state_dict": light(true_shapes(file))}, tmp_path / f"{name}.ckpt")
    f8: dict[str, Any] = {
        "channels": [128, 256, 256, 512],
        "attention": [False, False, False, True],
        "codes": 16384,
    }
    coder = meta(
        lambda: build_vq(
            spatial_dims=2,
            in_channels=3,
            latent_channels=4 if name == "f8" else 3,
            **(f8 if name == "f8" else {}),
        )
    )
    found = read("ldm", tmp_path / f"{name}.ckpt").parts
    assert compare_keys(coder.state_dict(), found["autoencoder"]).problems == []


@pytest.mark.parametrize("source", ["clip", "ldm"])
def test_the_text_part_is_transformers_own(
    source: str, files: dict[str, Path], tmp_path: Path
) -> None:
    text = read(source, files[source]).parts["text_encoder"]
    save_file(
        {n: t.clone() for n, t in text.items()}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    clip_text_config().save_pretrained(tmp_path)
    ours, info = CLIPTextModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    tokens = torch.tensor([[1, 4, 7, 2]])
    with torch.no_grad():
        expected = clip_model().text_model(tokens).last_hidden_state
        made = ours.eval()(tokens).last_hidden_state
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


def test_a_folder_of_clip_is_read(tmp_path: Path) -> None:
    clip_model().save_pretrained(tmp_path)
    found = read("clip", tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    assert set(found.parts["text_encoder"]) == {n for n in held if n.startswith("text_model.")}
    assert found.remarks == [
        "left out: logit_scale, text_projection, vision_model, visual_projection"
    ]


def test_a_resnet_of_torchvision_gives_transformers_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8, 8, 12], depths=[3, 4, 6, 3], layer_type="basic",
        num_labels=5,
    )  # fmt: skip
    theirs = ResNetForImageClassification(config).eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    state = {_torchvision(name): t for name, t in theirs.state_dict().items()}
    old = {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "resnet34.pth")
    ours: Any = resnet(2, 3, 5, 34, [4, 8, 8, 12])
    ours.load_state_dict(dict(read("torchvision", tmp_path / "resnet34.pth").parts["classifier"]))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, made = theirs(images).logits, ours.eval()(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)


def _torchvision(name: str) -> str:
    """Name transformers' tensor as torchvision does."""
    parts = name.split(".")
    if parts[0] == "classifier":
        return f"fc.{parts[-1]}"
    kind = {"convolution": "conv", "normalization": "bn"}[parts[-2]]
    if parts[1] == "embedder":
        return f"{kind}1.{parts[-1]}"
    # resnet.encoder.stages.S.layers.L.layer.I.convolution.weight
    place = f"layer{int(parts[3]) + 1}.{parts[5]}"
    if parts[6] == "shortcut":
        return f"{place}.downsample.{0 if kind == 'conv' else 1}.{parts[-1]}"
    return f"{place}.{kind}{int(parts[7]) + 1}.{parts[-1]}"


def test_a_resnets_last_layer_may_be_new(tmp_path: Path) -> None:
    whole: Any = resnet(2, 3, 5, 18, [2, 2, 4, 4])
    body = {n: t for n, t in whole.state_dict().items() if not n.startswith("fc.")}
    save_file(body, tmp_path / "body.safetensors")
    ours: Any = resnet(2, 3, 2, 18, [2, 2, 4, 4], tmp_path / "body.safetensors")
    held = ours.state_dict()
    assert all(torch.equal(held[name], tensor) for name, tensor in body.items())
    # It tells other classes apart: where the file has one, it is left out.
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    again: Any = resnet(2, 3, 2, 18, [2, 2, 4, 4], tmp_path / "whole.pth")
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in body.items())
    assert again.fc.weight.shape == (2, 4)
    with pytest.raises(UserError, match="of another shape"):
        resnet(2, 3, 2, 18, [2, 2, 4, 8], tmp_path / "whole.pth")


@pytest.mark.parametrize("name", ["maisi", "ldm", "clip", "torchvision", "medicalnet", "inception"])
def test_another_network_is_refused_by_its_file(name: str, tmp_path: Path) -> None:
    torch.save({"head.weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a\.pt (holds|does not hold)"):
        read(name, tmp_path / "a.pt")
