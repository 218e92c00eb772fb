"""From conditions to latents: the sampling loop around a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxella.diffusion.guidance import combine, is_within
from voxella.diffusion.noise import seeded_noise
from voxella.diffusion.samplers import Sampler, make_sampler
from voxella.diffusion.sampling import sample
from voxella.engine.precision import autocast_dtype, lacks
from voxella.ldm.batches import pad_features
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.held import holding, own_scale
from voxella.ldm.request import Request
from voxella.recipe.model import Recipe, Sample

__all__ = ["Generated", "GenerationSettings", "generate", "said_by_head"]


@dataclass(frozen=True)
class Generated:
    """A batch of results.

    Attributes:
        latents: ``(B, C, *spatial)``, in the autoencoder's own scale, float32.
        class_probabilities: ``(B, K)`` of the text head at the last network call, or None. The head
            is told the timestep, so the call must be named; the last one decides the volume.
    """

    latents: Tensor
    class_probabilities: Tensor | None


@dataclass(frozen=True)
class GenerationSettings:
    """What a recipe says of generating latents.

    Attributes:
        sample: Sampler, steps, guidance and what the unconditional prediction lacks.
        shape: ``(C, *spatial)`` of a latent.
        seed: Of the noise.
        precision: As in training, such as ``bfloat16``; None: float32.
    """

    sample: Sample
    shape: tuple[int, ...]
    seed: int
    precision: str | None

    @classmethod
    def of(cls, recipe: Recipe) -> GenerationSettings:
        """Return a recipe's."""
        shape = (recipe.latent.channels, *recipe.latent.size)
        return cls(recipe.sample, shape, recipe.seed, autocast_dtype(recipe.deepspeed))


def generate(
    model: LatentDiffusion,
    settings: GenerationSettings,
    requests: Sequence[Request],
    *,
    device: torch.device,
    sampler: Sampler | None = None,
    weaker: LatentDiffusion | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Generated:
    """Make one latent per request; a volume depends on its request alone, not on its batch.

    Args:
        model: Trained, in evaluation mode, on ``device``.
        settings: What the recipe says.
        requests: The batch.
        device: Where to compute.
        sampler: If not the settings' (panels take fewer steps).
        weaker: The model of ``sample.autoguidance``; without it there is no guidance where the
            settings ask for it (panels).
        on_step: Called with (steps done, steps in all).
    """
    asked, shape = settings.sample, settings.shape
    sampler = sampler or _sampler(model, settings)
    given = _conditions(model, requests, device)
    null = {**given, **_null(asked.guidance_null, given, len(requests), device)}
    # Led away from: the weaker model under the same conditions, or the model without them.
    away, told = (model, null) if asked.autoguidance is None else (weaker, given)
    probabilities: list[Tensor] = []

    def noise(step: int, purpose: str = "sampling") -> Tensor:
        drawn = [
            seeded_noise(shape, seed=settings.seed, case_id=r.sample_id, step=step, purpose=purpose)
            for r in requests
        ]
        return torch.stack(drawn).to(device)

    def denoise(x: Tensor, t: int) -> Tensor:
        timesteps = torch.full((len(requests),), t, device=device)
        with _precision(settings.precision, device):
            conditioning = model.condition(timesteps=timesteps, **given)
            output = model.predict(x, timesteps, conditioning)
            within = is_within(model.schedule, t, asked.guidance_interval)
            if asked.guidance != 1.0 and away is not None and within:
                without = away.predict(x, timesteps, away.condition(timesteps=timesteps, **told))
                output = combine(output, without, asked.guidance)
        if conditioning.class_logits is not None:
            probabilities[:] = [conditioning.class_logits.float().softmax(dim=1)]
        return output

    latents = sample(
        sampler,
        denoise,
        noise(0, purpose="initial"),
        prediction=model.prediction,
        noise=noise,
        hold=holding(model, [r.held for r in requests], noise, device, fresh=sampler.stochastic),
        on_step=on_step,
    )
    own = latents / own_scale(model, latents)
    return Generated(own, probabilities[0] if probabilities else None)


def said_by_head(
    model: LatentDiffusion,
    settings: GenerationSettings,
    requests: Sequence[Request],
    *,
    device: torch.device,
) -> Tensor | None:
    """Return ``(B, K)`` of the text head at the last network call; None for models without one.

    It is what :func:`generate` returns beside its latents: the conditioner is asked alone.
    """
    last = _sampler(model, settings).moves[-1].t
    timesteps = torch.full((len(requests),), last, device=device)
    with _precision(settings.precision, device):
        said = model.condition(timesteps=timesteps, **_conditions(model, requests, device))
    return None if said.class_logits is None else said.class_logits.float().softmax(dim=1)


def _sampler(model: LatentDiffusion, settings: GenerationSettings) -> Sampler:
    asked, size = settings.sample, settings.shape[1:]
    plan = {"eta": asked.eta, "shift": asked.shift(size)}
    return make_sampler(asked.sampler, model.schedule, asked.steps, **plan)


def _conditions(
    model: LatentDiffusion, requests: Sequence[Request], device: torch.device
) -> dict[str, Any]:
    text, mask = _text(model, requests)
    return {
        "text_features": None if text is None else text.to(device),
        "text_mask": None if mask is None or bool(mask.all()) else mask.to(device),
        "label": torch.tensor([r.label for r in requests], device=device),
        "spacing_mm": _spacing(requests, device),
        "conditions": {
            name: torch.stack([r.conditions.get(name, torch.zeros(width)) for r in requests]).to(
                device
            )
            for name, width in model.conditions.items()
        },
    }


def _spacing(requests: Sequence[Request], device: torch.device) -> Tensor | None:
    known = [r.spacing_mm for r in requests if r.spacing_mm is not None]
    return torch.tensor(known, device=device) if len(known) == len(requests) else None


def _text(
    model: LatentDiffusion, requests: Sequence[Request]
) -> tuple[Tensor | None, Tensor | None]:
    """Return padded features and their mask; Nones where no request has a text."""
    if "text" not in model.needs or all(r.text_features is None for r in requests):
        return None, None
    empty = None if model.null_text is None else model.null_text[0].cpu()
    features = [empty if r.text_features is None else r.text_features for r in requests]
    known = [item for item in features if item is not None]
    if len(known) < len(features):
        raise ValueError("a request has no text, and the model does not know the empty report")
    return pad_features(known)


def _null(
    lacks: Sequence[str], given: dict[str, Any], count: int, device: torch.device
) -> dict[str, Any]:
    """Return the conditions that the unconditional prediction has in place of the given ones."""
    every = "conditions" in lacks
    kept = {n: value for n, value in given["conditions"].items() if not every and n not in lacks}
    null: dict[str, Any] = {"conditions": kept}
    if "text" in lacks:
        null |= {"text_features": None, "text_mask": None}
    if "label" in lacks:
        null |= {"label": None, "drop_label": torch.ones(count, dtype=torch.bool, device=device)}
    return null


def _precision(dtype: str | None, device: torch.device) -> Any:  # noqa: ANN401 - a context manager
    """Compute as in training where a GPU has that precision; elsewhere in float32."""
    # On a CPU bfloat16 is only slower; on an old GPU it is emulated.
    if dtype is None or device.type == "cpu" or lacks(device, dtype) is not None:
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))
