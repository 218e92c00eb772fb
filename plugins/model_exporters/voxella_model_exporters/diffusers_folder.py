"""A 2D model as folders of diffusers: ``unet``, ``vqvae`` or ``vae``, ``scheduler``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import nn

from voxella.files import atomic_path, write_json_atomic
from voxella.plugins.contracts import Exported
from voxella.sampling.trained_model import TrainedModel
from voxella.weights import write_state_dict
from voxella_backbones.ldm.first_stage import Sizes
from voxella_model_exporters.writing import arguments_of, refuse_misfits

__all__ = ["export_diffusers"]

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_PREDICTIONS = {"epsilon": "epsilon", "x0": "sample", "v": "v_prediction"}
_SCHEDULES = ("linear", "scaled_linear")


def export_diffusers(model: Path, out: Path, autoencoder_weights: Path | None = None) -> Exported:
    """Write folders that ``from_pretrained`` reads, and of models without text a whole pipeline.

    Args:
        model: The model folder.
        out: Receives the folders.
        autoencoder_weights: Of the recipe's autoencoder, where they lie elsewhere.

    Raises:
        UserError: diffusers has no such network.
    """
    found = TrainedModel.open(model, autoencoder_weights=autoencoder_weights)
    refuse_misfits(
        "diffusers",
        list(_misfits(found)),
        fits="2D models: ldm_unet without vectors, autoencoder vq or kl2d, schedule linear or "
        "scaled_linear",
        remedy=f"voxella sample --model {model} --out OUT   (makes images of any model)",
    )
    context = found.network.backbone.context_dim
    first = "vqvae" if found.recipe.autoencoder.name == "vq" else "vae"
    unet = _unet(found)
    parts: dict[str, nn.Module] = {"unet": unet, first: _first_stage(found)}
    written = [path for name, part in parts.items() for path in _save(part, out / name)]
    scheduler = _scheduler(found)
    written.append(_config(scheduler, out / "scheduler" / "scheduler_config.json"))
    remarks = ["images of diffusers lie in [-1, 1], of voxella in [0, 1]"]
    if context is None and first == "vqvae":
        index = {
            "_class_name": "LDMPipeline",
            "scheduler": ["diffusers", "DDIMScheduler"],
            "unet": ["diffusers", type(unet).__name__],
            "vqvae": ["diffusers", "VQModel"],
        }
        written.append(write_json_atomic(out / "model_index.json", index))
        remarks.append(f"whole: diffusers.DiffusionPipeline.from_pretrained({str(out)!r})")
    elif context is not None:
        written += _conditioner(found, out / "conditioner")
        remarks.append(
            f"encoder_hidden_states are tokens of width {context}, of conditioner "
            f"{found.recipe.conditioner.name}: what the U-Net reads is not made by diffusers"
        )
    return Exported(written, remarks)


def _misfits(found: TrainedModel) -> Iterator[str]:
    recipe = found.recipe
    if recipe.backbone.name != "ldm_unet":
        yield f"backbone {recipe.backbone.name}"
    if recipe.vectors:
        yield f"vectors {', '.join(vector.name for vector in recipe.vectors)}"
    if recipe.autoencoder.name not in ("vq", "kl2d"):
        yield f"autoencoder {recipe.autoencoder.name}"
    if recipe.autoencoder.per_sequence:
        yield "an autoencoder that runs over each sequence by itself"
    if recipe.diffusion.schedule not in _SCHEDULES:
        yield f"schedule {recipe.diffusion.schedule}"
    if recipe.diffusion.prediction not in _PREDICTIONS:
        yield f"prediction {recipe.diffusion.prediction}"
    if isinstance(found.facts.latent_scale, list):
        yield "one factor on latents for each channel"


def _unet(found: TrainedModel) -> nn.Module:
    """Return the U-Net as a class of diffusers that its own configuration builds again."""
    recipe = found.recipe
    ours: Any = found.network.backbone.unet  # diffusers is untyped
    size = list(recipe.latent.size)
    if found.network.backbone.context_dim is not None:
        made: nn.Module = UNet2DConditionModel.from_config({**ours.config, "sample_size": size})
    else:
        # Without context diffusers' other class has the same network: attention in the middle, too.
        own = arguments_of("backbones", recipe.backbone)
        channels, heads = list(own["channels"]), own["heads"]
        widths = [width // n for width, n in zip(channels, _by_level(heads, channels), strict=True)]
        attends = [name.startswith("Attn") for name in ours.config.down_block_types]
        used = {w for w, on in zip(widths, [*attends[:-1], True], strict=True) if on}
        # None: each level is one head.
        one_head = all(number == 1 for number in _by_level(heads, channels))
        refuse_misfits(
            "diffusers",
            [f"attention heads of widths {sorted(used)}"] if len(used) > 1 and not one_head else [],
            fits="one head at each level, or heads of one width, where there is no text",
            remedy="export a model with text, or one with such heads",
        )
        made = UNet2DModel(
            sample_size=size[0] if len(set(size)) == 1 else tuple(size),
            in_channels=recipe.latent.channels,
            out_channels=recipe.latent.channels,
            down_block_types=tuple(ours.config.down_block_types),
            up_block_types=tuple(ours.config.up_block_types),
            block_out_channels=tuple(channels),
            layers_per_block=own["res_blocks"],
            attention_head_dim=None if one_head else widths[-1],
            norm_num_groups=own["norm_groups"],
        )
    made.load_state_dict(ours.state_dict())
    return made


def _by_level(heads: int | list[int], channels: list[int]) -> list[int]:
    return [heads] * len(channels) if isinstance(heads, int) else list(heads)


def _first_stage(found: TrainedModel) -> nn.Module:
    """Return the autoencoder as diffusers' class."""
    recipe, ours = found.recipe, found.autoencoder
    own = arguments_of("autoencoders", recipe.autoencoder)
    sizes = Sizes(
        spatial_dims=len(recipe.latent.size),
        in_channels=recipe.image_channels,
        latent_channels=recipe.latent.channels,
        **{name: own[name] for name in ("channels", "attention", "res_blocks", "norm_groups")},
    )
    shared: dict[str, Any] = {
        **sizes.arguments(recipe.autoencoder.name),
        "sample_size": recipe.prepare.size[0],
        "scaling_factor": found.facts.latent_scale,
    }
    if recipe.autoencoder.name == "vq":
        codes = {"num_vq_embeddings": own["codes"], "vq_embed_dim": recipe.latent.channels}
        made: nn.Module = VQModel(**shared, **codes)
    else:
        made = AutoencoderKL(**shared)
    made.load_state_dict(ours.state_dict())
    return made


def _scheduler(found: TrainedModel) -> Any:  # noqa: ANN401 - diffusers is untyped
    """Return DDIM on the model's schedule, to clean data or, of ``ddim_leading``, as that."""
    own = found.recipe.diffusion
    leading = found.recipe.sample.sampler == "ddim_leading"
    return DDIMScheduler(
        num_train_timesteps=own.steps,
        beta_start=own.beta_start,
        beta_end=own.beta_end,
        beta_schedule=own.schedule,
        prediction_type=_PREDICTIONS[own.prediction],
        clip_sample=False,
        set_alpha_to_one=not leading,
        steps_offset=1 if leading else 0,
        timestep_spacing="leading" if leading else "trailing",
    )


def _conditioner(found: TrainedModel, folder: Path) -> Iterator[Path]:
    """Write what the conditioner has learnt and the features of the empty report, if any."""
    state = dict(found.network.conditioner.state_dict())
    if found.network.null_text is not None:
        state["null_text"] = found.network.null_text
    if state:
        yield write_state_dict(folder / "model.safetensors", state)


def _save(part: Any, folder: Path) -> list[Path]:  # noqa: ANN401 - diffusers is untyped
    """Write what ``save_pretrained`` writes, atomically."""
    weights = write_state_dict(folder / _WEIGHTS, part.state_dict(), {"format": "pt"})
    return [weights, _config(part, folder / "config.json")]


def _config(part: Any, path: Path) -> Path:  # noqa: ANN401 - diffusers is untyped
    with atomic_path(path) as temporary:
        temporary.write_text(part.to_json_string(), encoding="utf-8")
    return path
