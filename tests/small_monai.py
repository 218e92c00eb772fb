"""MONAI's own U-Net of MAISI, small: what released weights are held to."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from torch import nn

__all__ = ["awake", "monai_unet"]

M = TypeVar("M", bound=nn.Module)


def monai_unet(
    channels: int = 2,
    *,
    dims: int = 3,
    head_channels: int = 4,
    groups: int = 4,
    text_width: int | None = None,
    **flags: Any,
) -> DiffusionModelUNetMaisi:
    """Build it of two levels of 8 and 16 channels, the second with attention; it reads spacings.

    Args:
        channels: Of its input and its output.
        dims: Axes of the latents.
        head_channels: Of the second level's attention.
        groups: Of its norms.
        text_width: Channels of the tokens that it attends to; None: it reads no text.
        flags: More arguments of MONAI's class.
    """
    torch.manual_seed(2)
    module = DiffusionModelUNetMaisi(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=channels,
        num_channels=(8, 16),
        attention_levels=(False, True),
        num_head_channels=(0, head_channels),
        num_res_blocks=1,
        norm_num_groups=groups,
        with_conditioning=text_width is not None,
        cross_attention_dim=text_width,
        upcast_attention=text_width is not None,
        include_spacing_input=True,
        **flags,
    )
    return awake(module).eval().requires_grad_(requires_grad=False)


def awake(module: M) -> M:
    """Give the zero-initialised ends weights, so that an output depends on everything."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if not parameter.any():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return module
