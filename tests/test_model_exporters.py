"""Exported models, read by the other side's own code: small random weights, equal predictions."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DModel, VQModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.bundle import ConfigParser
from monai.bundle import run as run_bundle
from monai.bundle.workflows import ConfigWorkflow
from safetensors.torch import load_file
from torch import Tensor

from voxella.cli import main
from voxella.conditioning import Conditioning
from voxella.diffusion.moves import plan_moves
from voxella.diffusion.samplers import SAMPLERS, Sampler
from voxella.diffusion.sampling import sample
from voxella.diffusion.schedule import make_schedule
from voxella.sampling.trained_model import TrainedModel
from voxella.testing.small_models import SMALL_MODELS, small_model
from voxella_backbones.released import convert_released_state_dict as our_unet
from voxella_conditioners.released import convert_released_state_dict as our_adapter

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
SHORT = {"diffusion": {"steps": 12, "beta_start": 0.02, "beta_end": 0.9}}
VARIANTS = {
    "base": ("none", ("spacing",)),
    "radbase": ("radclass", ("class", "spacing")),
    "ellabase": ("ella", ("spacing",)),
    "decoupled": ("ella", ("class", "spacing")),
    **{name: (name, ("class", "spacing")) for name in ("ccella", "shared", "first", "last")},
}


def blocks_of(variant: str) -> dict[str, Any]:
    """The recipe of one of the paper's models, small."""
    conditioner, vectors = VARIANTS[variant]
    blocks = {**SMALL_MODELS["volume_with_text"]}
    sizes = {k: v for k, v in blocks["conditioner"].items() if k not in ("name", "head_hidden")}
    if conditioner in ("none", "radclass"):
        blocks.pop("text")
        sizes = {}
    if conditioner in ("ccella", "shared", "first", "last"):
        sizes["head_hidden"] = 4
    if variant == "decoupled":
        sizes["class_vector"] = True
    blocks["conditioner"] = {"name": conditioner, **sizes}
    blocks["vectors"] = [{"name": name, "scale": 100} for name in vectors]
    return blocks


def export(format_: str, model: Path, out: Path) -> Path:
    assert main(["export", format_, str(model), "--out", str(out)]) == 0
    return out


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0.01  # two networks of zeros would be equal, too
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("licences", [{"backbone": "CC BY-NC 4.0"}, {}])
def test_the_licences_of_what_a_model_was_made_of_go_out_with_it(
    licences: dict[str, str], tmp_path: Path
) -> None:
    model = small_model(tmp_path, blocks_of("ccella"))
    facts = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(facts | {"licences": licences}))
    told = export("ccella", model, tmp_path / "out") / "licences.txt"
    assert told.is_file() == bool(licences)
    if licences:
        assert "backbone: CC BY-NC 4.0" in told.read_text().splitlines()


@pytest.mark.parametrize("variant", VARIANTS)
def test_ccella_has_the_released_layout_and_comes_back(variant: str, tmp_path: Path) -> None:
    model = small_model(tmp_path, blocks_of(variant))
    content = torch.load(export("ccella", model, tmp_path / "out") / "small.pt", weights_only=True)
    found = TrainedModel.open(model)
    state = content["unet_state_dict"]
    assert content["num_train_timesteps"] == 1000
    assert content["scale_factor"].item() == found.facts.latent_scale
    text = VARIANTS[variant][0] not in ("none", "radclass")
    # The names, as the released modules have them.
    prefix = "unet." if text else ""
    assert f"{prefix}conv_in.conv.weight" in state
    assert (f"{prefix}pirads_layer.0.weight" in state) == ("class" in VARIANTS[variant][1])
    assert not [name for name in state if "class_layer" in name]
    assert ("ella.connector.latents" in state) == text
    heads = {
        "ccella": "ella.connector.cascade_blocks.1.fc2.bias",
        "shared": "ella.connector.classifier.fc2.bias",
        "first": "ella.connector.classifier.fc2.bias",
        "last": "classifier.fc2.bias",
    }
    assert [v for v in heads if heads[v] in state] == [
        v for v in heads if heads[v] == heads.get(variant)
    ]
    assert ("classifier.weight" in state) == (variant in ("ccella", "shared"))
    # And back, to the last bit.
    network = found.network
    back = our_unet(state)
    assert back.keys() == network.backbone.state_dict().keys()
    network.backbone.load_state_dict(back)
    for name, tensor in TrainedModel.open(model).network.backbone.state_dict().items():
        assert torch.equal(back[name], tensor), name
    if text:
        adapter = our_adapter(state)
        ours = network.conditioner.state_dict()
        assert adapter.keys() == ours.keys()
        assert all(torch.equal(adapter[name], ours[name]) for name in ours)


def test_a_released_file_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """Values of our own names would also pass with a wrong map that is its own inverse."""
    from test_conditioners_released import _released

    from voxella_backbones.released import to_released_state_dict as their_unet
    from voxella_conditioners.released import to_released_state_dict as their_adapter

    for variant in ("ella", "ccella", "shared", "first", "last"):
        state = {n: t for n, t in _released(variant).items() if not n.startswith("unet.")}
        again = their_adapter(our_adapter(state), variant)
        assert again.keys() == state.keys()
        assert all(torch.equal(again[name], state[name]) for name in state)
    unet = {
        "unet.pirads_layer.0.weight": torch.ones(2),
        "unet.top_region_index_layer.2.bias": torch.ones(2),
    }
    for inside in (True, False):
        bare = {name if inside else name.removeprefix("unet."): t for name, t in unet.items()}
        back = their_unet(our_unet(bare), inside=inside)
        assert {name: id(t) for name, t in back.items()} == {n: id(t) for n, t in bare.items()}


def instance(definition: dict[str, Any]) -> Any:
    return ConfigParser({"network": definition}).get_parsed_content("network")


def test_maisi_reads_a_base_model(tmp_path: Path) -> None:
    model = small_model(tmp_path, SMALL_MODELS["volume"])
    out = export("maisi", model, tmp_path / "out")
    content = torch.load(out / "diff_unet.pt", weights_only=True)
    config = json.loads((out / "config_network.json").read_text())
    theirs = instance(config["diffusion_unet_def"])
    assert type(theirs) is DiffusionModelUNetMaisi
    theirs.load_state_dict(content["unet_state_dict"], strict=True)
    found = TrainedModel.open(model)
    x, steps = torch.randn(2, 4, 4, 4, 4), torch.tensor([3, 700])
    spacing = torch.tensor([[0.5, 0.6, 3.0], [1.0, 1.0, 1.0]])
    with torch.no_grad():
        told = found.network.condition(timesteps=steps, spacing_mm=spacing)
        expected = found.network.predict(x, steps, told)
        close(theirs.eval()(x, steps, spacing_tensor=spacing * 100), expected)
        autoencoder = instance(config["autoencoder_def"])
        assert type(autoencoder) is AutoencoderKlMaisi
        autoencoder.load_state_dict(torch.load(out / "autoencoder.pt", weights_only=True))
        images = torch.rand(1, 1, 16, 16, 16)
        latents = found.autoencoder.encode(images)[0]  # type: ignore[operator] # of the contract
        close(autoencoder.eval().encode(images)[0], latents)
        decoded = autoencoder.decode(latents).clamp(0, 1)
        close(decoded, found.autoencoder.decode(latents))  # type: ignore[operator] # the same


@pytest.mark.parametrize("kind", ["maisi", "kl"])
def test_monai_runs_the_bundle(kind: str, tmp_path: Path) -> None:
    blocks = {**SMALL_MODELS["volume"], **SHORT}
    blocks["autoencoder"] = {**blocks["autoencoder"], "name": kind}
    model = small_model(tmp_path, blocks)
    out = export("monai-bundle", model, tmp_path / "out")
    configs = {
        "config_file": str(out / "configs" / "inference.json"),
        "meta_file": str(out / "configs" / "metadata.json"),
    }
    workflow = ConfigWorkflow(**configs, workflow_type="inference")  # refuses a bad metadata.json
    workflow.initialize()
    assert workflow.version == "0.1.0"
    assert isinstance(workflow.network_def, DiffusionModelUNetMaisi)
    run_bundle(run_id="run", **configs, bundle_root=str(out), seed=5)
    (path,) = (out / "output").glob("*.nii.gz")
    assert path.name == "synthetic_5.nii.gz"
    made = nib.load(path)
    assert np.diag(made.affine).tolist() == [1.0, 1.0, 1.0, 1.0]
    # The same noise through our own network, sampler and decoder.
    found = TrainedModel.open(model)
    schedule = make_schedule("scaled_linear", steps=12, beta_start=0.02, beta_end=0.9)
    moves = plan_moves(schedule, list(reversed(range(12))))
    sampler = Sampler("ddim", schedule, moves, SAMPLERS["ddim"].update, stochastic=False)
    spacing = torch.ones(1, 3)

    def denoise(x: Tensor, t: int) -> Tensor:
        steps = torch.tensor([t])
        told = found.network.condition(timesteps=steps, spacing_mm=spacing)
        return found.network.predict(x, steps, told)

    noise = torch.randn([1, 4, 4, 4, 4], generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        latent = sample(sampler, denoise, noise, prediction="epsilon")
        image = found.autoencoder.decode(latent / 0.875)  # type: ignore[operator] # the contract
    assert image.std() > 0.01
    np.testing.assert_allclose(np.asarray(made.dataobj), image[0, 0].numpy(), atol=1e-4)


def test_the_bundle_needs_no_voxella(tmp_path: Path) -> None:
    out = export("monai-bundle", small_model(tmp_path, SMALL_MODELS["volume"]), tmp_path / "out")
    told = (out / "configs" / "inference.json").read_text()
    assert "voxella" not in told
    assert (
        sys.modules["monai"].__version__
        == json.loads((out / "configs" / "metadata.json").read_text())["monai_version"]
    )


def test_diffusers_reads_a_model_with_text(tmp_path: Path) -> None:
    model = small_model(tmp_path, SMALL_MODELS["tile_with_text"])
    out = export("diffusers", model, tmp_path / "out")
    found = TrainedModel.open(model)
    theirs = UNet2DConditionModel.from_pretrained(out / "unet").eval()
    x, steps, text = torch.randn(2, 3, 4, 4), torch.tensor([3, 700]), torch.randn(2, 5, 6)
    with torch.no_grad():
        expected = found.network.backbone(x, steps, Conditioning(context=text))
        close(theirs(x, steps, encoder_hidden_states=text).sample, expected)
    null_text = load_file(out / "conditioner" / "model.safetensors")["null_text"]
    assert found.network.null_text is not None
    assert torch.equal(null_text, found.network.null_text)


def test_diffusers_runs_a_model_without_text_as_a_pipeline(tmp_path: Path) -> None:
    blocks = {**SMALL_MODELS["tile"], "sample": {"sampler": "ddim_leading", "steps": 4}}
    blocks["backbone"] = {**blocks["backbone"], "attention": [True, True]}
    model = small_model(tmp_path, blocks)
    out = export("diffusers", model, tmp_path / "out")
    found = TrainedModel.open(model)
    x, steps = torch.randn(2, 3, 4, 4), torch.tensor([3, 700])
    with torch.no_grad():
        unet = UNet2DModel.from_pretrained(out / "unet").eval()
        close(unet(x, steps).sample, found.network.backbone(x, steps, Conditioning()))
        first = VQModel.from_pretrained(out / "vqvae").eval()
        images = torch.rand(1, 3, 16, 16)
        latents = found.autoencoder.encode(images)[0]  # type: ignore[operator] # of the contract
        close(first.encode(2 * images - 1).latents, latents)
        ours = found.autoencoder.decode(latents)  # type: ignore[operator] # of the contract
        close((first.decode(latents).sample / 2 + 0.5).clamp(0, 1), ours)
    pipeline = DiffusionPipeline.from_pretrained(out)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(2)
    made = pipeline(generator=generator, num_inference_steps=4, output_type="np").images
    # The same noise, timesteps and update of ours.
    from voxella.diffusion.samplers import make_sampler

    noise = torch.randn((1, 3, 4, 4), generator=torch.Generator().manual_seed(2))
    sampler = make_sampler("ddim_leading", found.network.schedule, 4)
    assert pipeline.scheduler.timesteps.tolist() == list(sampler.timesteps)

    def denoise(x: Tensor, t: int) -> Tensor:
        predicted: Tensor = found.network.backbone(x, torch.tensor([t]), Conditioning())
        return predicted

    latent = sample(sampler, denoise, noise, prediction="epsilon")
    with torch.no_grad():
        image = found.autoencoder.decode(latent / 0.875)  # type: ignore[operator] # the contract
    np.testing.assert_allclose(made[0], image[0].permute(1, 2, 0).numpy(), atol=1e-4)


def test_diffusers_reads_a_kl_first_stage_and_the_schedule(tmp_path: Path) -> None:
    blocks = {**SMALL_MODELS["tile"], "diffusion": {"schedule": "linear", "prediction": "v"}}
    blocks["autoencoder"] = {"name": "kl2d", "channels": [8, 8, 8], "norm_groups": 4}
    model = small_model(tmp_path, blocks)
    out = export("diffusers", model, tmp_path / "out")
    found = TrainedModel.open(model)
    theirs = AutoencoderKL.from_pretrained(out / "vae").eval()
    assert theirs.config.scaling_factor == 0.875
    with torch.no_grad():
        images = torch.rand(1, 3, 16, 16)
        mean, log_sigma = found.autoencoder.encode(images)  # type: ignore[operator] # of the contract
        encoded = theirs.encode(2 * images - 1).latent_dist
        close(encoded.mean, mean)
        close(encoded.std, log_sigma.exp())
    scheduler = DDIMScheduler.from_pretrained(out / "scheduler")
    assert scheduler.config.prediction_type == "v_prediction"
    close(scheduler.alphas_cumprod.sqrt(), found.network.schedule.alphas.float())


@pytest.mark.parametrize(
    ("format_", "name", "told"),
    [
        ("ccella", "tile", "backbone ldm_unet"),
        ("maisi", "volume_with_text", "conditioner ccella: MONAI has no module"),
        ("maisi", "tile", "autoencoder vq"),
        ("monai-bundle", "volume_with_text", "vector class of 3D images"),
        ("diffusers", "volume", "backbone maisi_unet"),
        ("dicom9", "volume", "no plugin 'dicom9'"),
    ],
)
def test_what_the_other_code_has_not_is_one_message(
    format_: str, name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model(tmp_path, SMALL_MODELS[name])
    assert main(["export", format_, str(model), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
    assert not list((tmp_path / "out").glob("*.pt"))


def test_options_of_data_sets_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model(tmp_path, SMALL_MODELS["volume"])
    command = ["export", "maisi", str(model), "--out", str(tmp_path / "out"), "--copy"]
    assert main(command) == 2
    assert "--copy" in capsys.readouterr().err


def test_another_vector_or_factor_is_no_released_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = {**SMALL_MODELS["volume"], "vectors": [{"name": "spacing", "scale": 1}]}
    model = small_model(tmp_path, blocks)
    assert main(["export", "ccella", str(model), "--out", str(tmp_path / "out")]) == 2
    assert "vectors spacing x 1" in capsys.readouterr().err


def test_a_flow_is_no_bundle_and_its_weights_say_how_time_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = {"schedule": "rectified_flow", "prediction": "flow"}
    sampled = {"sampler": "euler", "steps": 2}
    model = small_model(tmp_path, {**SMALL_MODELS["volume"], "diffusion": flow, "sample": sampled})
    assert main(["export", "monai-bundle", str(model), "--out", str(tmp_path / "bundle")]) == 2
    assert "schedule rectified_flow" in capsys.readouterr().err
    export("maisi", model, tmp_path / "out")
    assert "t is t - 1 of MONAI's RFlowScheduler" in capsys.readouterr().out
