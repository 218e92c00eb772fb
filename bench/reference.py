"""The same model, trained and sampled the plain published way: what ours is timed against.

MONAI's U-Net as it comes, explicit softmax attention, an adapter of torch's own layers, every
padded token attended to, AdamW as torch makes it. Parameters have the released checkpoints' names,
so that one set of weights goes into both models: they compute the same function.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from torch import Tensor, nn
from torch.nn import functional

from voxella.ldm.batch import Batch
from voxella.ldm.build import LatentDiffusion
from voxella.recipe.model import Recipe
from voxella_backbones.released import (  # noqa: TID251 - names that no contract tells
    to_released_state_dict as released_unet,
)
from voxella_conditioners.released import (  # noqa: TID251 - as above
    to_released_state_dict as released_adapter,
)

__all__ = ["Reference", "ReferenceTraining"]

_SCALE = 100.0


class Reference(nn.Module):
    """CCELLA (arXiv 2506.10230) with the parameters of one of ours.

    Args:
        model: Ours, of conditioner ``ccella``; its weights are copied.
        recipe: Its recipe.
    """

    def __init__(self, model: LatentDiffusion, recipe: Recipe) -> None:
        super().__init__()
        arguments, sizes = recipe.backbone.arguments, recipe.conditioner.arguments
        assert recipe.text is not None
        width = int(sizes["width"])
        self.unet = _Unet(
            spatial_dims=len(recipe.latent.size),
            in_channels=recipe.latent.channels,
            out_channels=recipe.latent.channels,
            num_channels=tuple(arguments["channels"]),
            attention_levels=tuple(arguments["attention"]),
            num_head_channels=tuple(
                arguments["head_channels"] if there else 0 for there in arguments["attention"]
            ),
            num_res_blocks=arguments["res_blocks"],
            norm_num_groups=arguments["norm_groups"],
            with_conditioning=True,
            cross_attention_dim=width,
            upcast_attention=True,
            use_flash_attention=False,
            include_spacing_input=True,
        )
        hidden = int(sizes["head_hidden"])
        self.ella = nn.ModuleDict(
            {
                "time_embedding": _Linears({"linear_1": (320, width), "linear_2": (width, width)}),
                "connector": _Connector(
                    recipe.text.width,
                    width,
                    queries=int(sizes["queries"]),
                    blocks=int(sizes["blocks"]),
                    heads=int(sizes["heads"]),
                    hidden=hidden,
                ),
            }
        )
        self.classifier = nn.Linear(2 * int(sizes["blocks"]), 2)
        unet = released_unet(model.backbone.state_dict(), inside=True)
        self.load_state_dict(unet | released_adapter(model.conditioner.state_dict(), "ccella"))

    def forward(self, x: Tensor, timesteps: Tensor, text: Tensor, spacing: Tensor) -> Any:  # noqa: ANN401 - a pair
        """Return the prediction like ``x`` and class logits ``(B, 2)``."""
        time = _waves(timesteps, 320)
        embedding: Any = self.ella["time_embedding"]
        condition = embedding.at("linear_2", functional.silu(embedding.at("linear_1", time)))
        outputs, logits = self.ella["connector"](text, functional.silu(condition))
        joined = self.classifier(torch.cat(logits, dim=1))
        predicted = self.unet(
            x,
            timesteps,
            outputs,
            top_region_index_tensor=joined.softmax(dim=1) * _SCALE,
            spacing_tensor=spacing * _SCALE,
        )
        return predicted, joined


class ReferenceTraining:
    """A plain training loop: fp32 on the CPU, fp16 autocast with a scaler on a GPU.

    Args:
        model: See :class:`Reference`.
        ours: Whose noise schedule and loss weights are taken.
        recipe: The recipe.
    """

    def __init__(self, model: Reference, ours: LatentDiffusion, recipe: Recipe) -> None:
        self.model, self.schedule, self.loss = model, ours.schedule, recipe.loss
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.optimizer.lr)
        self.scaler = torch.amp.GradScaler(enabled=self.device.type == "cuda")
        self.clip = float(recipe.deepspeed["gradient_clipping"])

    def precision(self) -> Any:  # noqa: ANN401 - a context manager
        """Return what it computes in."""
        if self.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.float16)
        return nullcontext()

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return reconstruction and class loss of a batch."""
        x_t = self.schedule.add_noise(batch.latents, batch.noise, batch.timesteps)
        assert batch.text_features is not None
        assert batch.spacing_mm is not None
        with self.precision():
            predicted, logits = self.model(
                x_t, batch.timesteps, batch.text_features, batch.spacing_mm
            )
        reconstruction = functional.l1_loss(predicted.float(), batch.noise)
        log_p = logits.float().log_softmax(dim=1)
        target = batch.label * self.loss.class_target_scale
        last = 0.5 if self.loss.focal_alpha is None else self.loss.focal_alpha
        alpha = torch.tensor([1 - last, last]).to(log_p)
        focal = -alpha * target * (1 - log_p.exp()) ** self.loss.focal_gamma * log_p
        return reconstruction, focal.sum(dim=1).mean()

    def step(self, batch: Batch) -> float:
        """Take one optimizer step and return the loss."""
        self.optimizer.zero_grad()
        reconstruction, focal = self.losses(batch)
        loss = reconstruction + self.loss.class_weight * focal
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return float(loss.detach())


class _Unet(DiffusionModelUNetMaisi):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's, with the class vector where MAISI has the top region, as the paper's code does."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - MONAI's
        super().__init__(include_top_region_index_input=True, **arguments)
        del self.top_region_index_layer
        width = 4 * arguments["num_channels"][0]
        self.pirads_layer = self._create_embedding_module(2, width)

    def _get_input_embeddings(self, emb: Tensor, top: Tensor, _: object, spacing: Tensor) -> Tensor:
        return torch.cat([emb, self.pirads_layer(top), self.spacing_layer(spacing)], dim=1)


class _Linears(nn.Module):
    def __init__(self, sizes: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        for name, (inputs, outputs) in sizes.items():
            self.add_module(name, nn.Linear(inputs, outputs))

    def at(self, name: str, x: Tensor) -> Tensor:
        """Return what the linear layer of that name makes of ``x``."""
        made: Tensor = self.get_submodule(name)(x)
        return made


class _Connector(nn.Module):
    def __init__(
        self, text: int, width: int, *, queries: int, blocks: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.zeros(queries, width))
        self.time_aware_linear = nn.Linear(width, width)
        self.proj_in = nn.Linear(text, width)
        self.perceiver_blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        flat = queries * width
        self.cascade_blocks = nn.ModuleList(
            _Linears({"fc1": (flat, hidden), "fc2": (hidden, 2)}) for _ in range(blocks)
        )

    def forward(self, text: Tensor, condition: Tensor) -> tuple[Tensor, list[Tensor]]:
        latents = self.latents + self.time_aware_linear(condition)[:, None]
        tokens, logits = self.proj_in(text), []
        for block, head in zip(self.perceiver_blocks, self.cascade_blocks, strict=True):
            latents = block(latents, tokens, condition)
            logits.append(_head(head, latents.flatten(1)))
        return latents, logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = _Linears({"c_fc": (width, 4 * width), "c_proj": (4 * width, width)})
        for name in ("ln_1", "ln_2", "ln_ff"):
            self.add_module(name, _Linears({"linear": (width, 2 * width)}))

    def forward(self, latents: Tensor, tokens: Tensor, condition: Tensor) -> Tensor:
        asks = _modulated(self.ln_1, latents, condition)
        seen = torch.cat([asks, _modulated(self.ln_2, tokens, condition)], dim=1)
        latents = latents + self.attn(asks, seen, seen, need_weights=False)[0]
        wide = functional.relu(self.mlp.at("c_fc", _modulated(self.ln_ff, latents, condition)))
        refined: Tensor = latents + self.mlp.at("c_proj", wide.square())
        return refined


def _head(head: Any, flat: Tensor) -> Tensor:  # noqa: ANN401 - of named linears
    logits: Tensor = head.at("fc2", functional.relu(head.at("fc1", flat)))
    return logits


def _modulated(norm: Any, x: Tensor, condition: Tensor) -> Tensor:  # noqa: ANN401 - of named linears
    shift, scale = norm.at("linear", condition)[:, None].chunk(2, dim=-1)
    plain = functional.layer_norm(x, x.shape[-1:], eps=1e-6)
    modulated: Tensor = plain * (1 + scale) + shift
    return modulated


def _waves(timesteps: Tensor, channels: int) -> Tensor:
    half = channels // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=timesteps.device) / half)
    angles = timesteps.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
