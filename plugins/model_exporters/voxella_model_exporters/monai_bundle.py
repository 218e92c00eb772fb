"""A model as a MONAI bundle: ``python -m monai.bundle run`` makes a volume, without voxella."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from voxella.files import write_json_atomic, write_text_atomic
from voxella.plugins.contracts import Exported
from voxella.sampling.trained_model import TrainedModel
from voxella_model_exporters.maisi import AUTOENCODER, UNET, definitions, write_weights
from voxella_model_exporters.monai_networks import FITS, misfits
from voxella_model_exporters.writing import refuse_misfits

__all__ = ["export_bundle"]

_SCHEDULES = {"linear": "linear_beta", "scaled_linear": "scaled_linear_beta"}
_PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
_VERSION = "0.1.0"


def export_bundle(model: Path, out: Path, autoencoder_weights: Path | None = None) -> Exported:
    """Write ``configs/``, ``models/`` and ``docs/``.

    Args:
        model: The model folder.
        out: Receives the bundle.
        autoencoder_weights: Of the recipe's autoencoder, where they lie elsewhere.

    Raises:
        UserError: MONAI has no such network, or no such schedule.
    """
    found = TrainedModel.open(model, autoencoder_weights=autoencoder_weights)
    refuse_misfits(
        "monai-bundle",
        [*misfits(found), *_other_schedule(found)],
        fits=f"{FITS}; schedule {' or '.join(_SCHEDULES)}",
        remedy=f"voxella sample --model {model} --out OUT   (makes images of any model)",
    )
    weights = write_weights(found, out / "models")
    inference, metadata = out / "configs" / "inference.json", out / "configs" / "metadata.json"
    write_json_atomic(inference, _inference(found))
    write_json_atomic(metadata, _metadata(found))
    card = model / "README.md"
    told = card.read_text(encoding="utf-8") if card.is_file() else f"# {found.recipe.name}\n"
    readme = write_text_atomic(out / "docs" / "README.md", told)
    return Exported(
        [inference, metadata, *weights, readme],
        [
            f"run it: python -m monai.bundle run --config_file {inference} --meta_file {metadata} "
            f"--bundle_root {out} --seed 0   (MONAI's command line needs the package fire)",
            "fewer steps: --num_inference_steps 100; MONAI's DDIM is exact with all of them",
        ],
    )


def _other_schedule(found: TrainedModel) -> Iterator[str]:
    own = found.recipe.diffusion
    if own.schedule not in _SCHEDULES:
        yield f"schedule {own.schedule}"
    elif own.prediction not in _PREDICTIONS:
        yield f"prediction {own.prediction}"


def _inference(found: TrainedModel) -> dict[str, Any]:
    """Return the bundle's workflow: noise, DDIM, decoder, one NIfTI file."""
    recipe, networks = found.recipe, definitions(found)
    own, axes = recipe.diffusion, len(recipe.latent.size)
    spacing = _middle(found.facts.spacing_mm, axes)
    scale = next((float(vector.scale) for vector in recipe.vectors), None)
    return {
        "imports": ["$import functools", "$import torch", "$import monai"],
        "bundle_root": ".",
        "output_dir": "$@bundle_root + '/output'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "seed": 0,
        "num_inference_steps": own.steps,
        "spacing_mm": spacing,
        "latent_shape": [recipe.latent.channels, *recipe.latent.size],
        "scale_factor": found.facts.latent_scale,
        "network_def": networks["diffusion_unet_def"],
        "autoencoder_def": networks["autoencoder_def"],
        "network": "$@network_def.to(@device).eval()",
        "autoencoder": "$@autoencoder_def.to(@device).eval().requires_grad_(False)",
        "scheduler": {
            "_target_": "monai.networks.schedulers.DDIMScheduler",
            "num_train_timesteps": own.steps,
            "schedule": _SCHEDULES[own.schedule],
            "beta_start": own.beta_start,
            "beta_end": own.beta_end,
            "clip_sample": False,
            "prediction_type": _PREDICTIONS[own.prediction],
        },
        "inferer": {"_target_": "monai.inferers.DiffusionInferer", "scheduler": "@scheduler"},
        "noise": "$torch.randn([1, *@latent_shape], generator=torch.Generator().manual_seed(@seed))"
        ".to(@device)",
        **_denoiser(scale),
        "latent": "$@inferer.sample(@noise, @denoiser, @scheduler, verbose=False)",
        "image": "$@autoencoder.decode(@latent / @scale_factor).clamp(0, 1)",
        "affine": f"$torch.diag(torch.tensor([*@spacing_mm, *[1.0] * {4 - axes}]).double())",
        "saver": {
            "_target_": "monai.transforms.SaveImage",
            "output_dir": "@output_dir",
            "output_postfix": "",
            "separate_folder": False,
            "print_log": False,
        },
        "run": [
            "$@network.load_state_dict(torch.load("
            f"@bundle_root + '/models/{UNET}', weights_only=True)['unet_state_dict'])",
            "$@autoencoder.load_state_dict(torch.load("
            f"@bundle_root + '/models/{AUTOENCODER}', weights_only=True))",
            "$@scheduler.set_timesteps(@num_inference_steps, device=@device)",
            "$@saver(monai.data.MetaTensor(@image[0].cpu(), affine=@affine, "
            "meta={'filename_or_obj': 'synthetic_' + str(@seed)}))",
        ],
    }


def _denoiser(scale: float | None) -> dict[str, str]:
    """Return the network as the inferer calls it, told the spacing where it reads one."""
    if scale is None:
        return {"denoiser": "@network"}
    return {
        "spacing_tensor": f"$torch.tensor([@spacing_mm]).to(@device) * {scale!r}",
        "denoiser": "$functools.partial(@network, spacing_tensor=@spacing_tensor)",
    }


def _middle(spacing: dict[str, list[float]] | None, axes: int) -> list[float]:
    """Return the middle of the spacings that the model was trained on."""
    if spacing is None:
        return [1.0] * axes
    edges = zip(spacing["min"], spacing["max"], strict=True)
    return [(low + high) / 2 for low, high in edges]


def _metadata(found: TrainedModel) -> dict[str, Any]:
    recipe = found.recipe
    noise = {
        "type": "image",
        "format": "latent",
        "modality": "noise",
        "dtype": "float32",
        "value_range": [],
    }
    shape = list(recipe.latent.size)
    latent = {
        "num_channels": recipe.latent.channels,
        "spatial_shape": shape,
        "is_patch_data": False,
    }
    channels = {str(number): f"latent {number}" for number in range(recipe.latent.channels)}
    image = {**noise, **latent, "channel_def": channels}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "name": recipe.name,
        "version": _VERSION,
        "changelog": {_VERSION: "exported by voxella"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"nibabel": version("nibabel")},
        "task": "unconditional generation of medical images",
        "description": recipe.description or "a latent diffusion model trained with voxella",
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "research alone; not for clinical use",
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {"pred": image},
        },
    }
