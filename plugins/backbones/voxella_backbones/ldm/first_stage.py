"""What the two autoencoders of 2D latent diffusion have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from voxella.errors import UserError
from voxella_backbones.latent_contract import check_channels
from voxella_backbones.ldm.keys import convert_first_stage
from voxella_backbones.weights import load_weights

__all__ = ["FirstStage", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """What both are built from.

    Attributes:
        spatial_dims: 2.
        in_channels: Image channels.
        latent_channels: Channels of the latent.
        channels: Width of each level.
        attention: Whether a level has attention; None: none of them. The middle has always.
        res_blocks: Residual blocks per level; the decoder has one more.
        norm_groups: Groups of the group norms.
    """

    spatial_dims: int
    in_channels: int
    latent_channels: int
    channels: Sequence[int]
    attention: Sequence[bool] | None
    res_blocks: int
    norm_groups: int

    def arguments(self, name: str) -> dict[str, Any]:
        """Return the arguments that diffusers' two classes share.

        Args:
            name: Of the autoencoder, for messages.

        Raises:
            UserError: The sizes do not fit one another.
        """
        attends = _checked_attention(name, self)
        return {
            "in_channels": self.in_channels,
            "out_channels": self.in_channels,
            "down_block_types": _block_names("DownEncoderBlock2D", attends),
            "up_block_types": _block_names("UpDecoderBlock2D", attends[::-1]),
            "block_out_channels": tuple(self.channels),
            "layers_per_block": self.res_blocks,
            "latent_channels": self.latent_channels,
            "norm_num_groups": self.norm_groups,
        }


class FirstStage(nn.Module):
    """What both have in common (Rombach et al. 2022, arXiv:2112.10752): encoder and decoder.

    The parts are diffusers', under diffusers' names. Inside, images lie in [-1, 1].

    Attributes:
        factor: Pixels of the image per pixel of the latent, along each axis.
        latent_channels: Channels of the latent.
        weights_sha256: Checksum of the file the weights came from; None while there is none.
    """

    factor: int
    latent_channels: int
    weights_sha256: str | None

    def __init__(self, network: VQModel | AutoencoderKL, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.quant_conv = network.quant_conv
        self.post_quant_conv = network.post_quant_conv
        self.decoder = network.decoder
        self.levels = len(sizes.channels)
        self.factor, self.latent_channels = 2 ** (self.levels - 1), sizes.latent_channels
        self.weights_sha256 = None

    def start_from(self, weights: Path | None) -> None:
        """Load a file, once the network stands; strictly, by diffusers' names or the released."""
        # On the device `meta` parameters are counted, not read.
        if weights is not None and not self.last_layer.is_meta:
            convert = partial(convert_first_stage, levels=self.levels)
            self.weights_sha256 = load_weights(self, weights, convert)

    @property
    def last_layer(self) -> nn.Parameter:
        """Return the weight of the last convolution of the decoder."""
        weight: nn.Parameter = self.decoder.conv_out.weight
        return weight

    @contextmanager
    def last_layer_gradients(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Watch the last convolution of the decoder while it decodes, in training mode.

        What is yielded maps the gradient at the images that were decoded last to the gradient at
        that convolution's weight. The weight itself is not read: ZeRO 3 may have taken it away.
        """
        layer: nn.Conv2d = self.decoder.conv_out
        entered: list[Tensor] = []

        def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entered[:] = [inputs[0].detach()]

        def gradient_at(images: Tensor) -> Tensor:
            shape = (layer.out_channels, layer.in_channels, *layer.kernel_size)
            # An image is half of what the convolution returns, plus a constant.
            found: Tensor = conv2d_weight(  # type: ignore[no-untyped-call]  # torch leaves it untyped
                entered[0].float(),
                shape,
                images.float() / 2,
                stride=layer.stride,
                padding=layer.padding,
            )
            return found

        hook = layer.register_forward_pre_hook(keep)
        try:
            yield gradient_at
        finally:
            hook.remove()

    def encoded(self, images: Tensor) -> Tensor:
        """Return what the 1 x 1 convolution behind the encoder makes of images in [0, 1]."""
        if any(size % self.factor for size in images.shape[2:]):
            raise UserError(
                f"an image of {tuple(images.shape[2:])} pixels does not fit the autoencoder",
                expected=f"multiples of {self.factor} along each axis",
                remedy="change prepare.size",
            )
        encoded: Tensor = self.quant_conv(self.encoder(2 * self.plain(images) - 1))
        return encoded

    def decoded(self, latents: Tensor) -> Tensor:
        """Return images; clipped in evaluation only: a clipped pixel has no gradient."""
        images: Tensor = (self.decoder(self.post_quant_conv(latents)) + 1) / 2
        return images if self.training else images.clamp(0.0, 1.0)

    def plain(self, x: Tensor) -> Tensor:
        """Strip MONAI's MetaTensor, which slows every operation, and match the parameters."""
        return x.as_subclass(torch.Tensor).to(self.last_layer.dtype)


def _block_names(kind: str, attends: Sequence[bool]) -> tuple[str, ...]:
    """Return diffusers' names of the blocks of ``kind``, with attention where a level attends."""
    return tuple(f"Attn{kind}" if on else kind for on in attends)


def _checked_attention(name: str, sizes: Sizes) -> list[bool]:
    """Return which levels attend: none, where nothing is told."""
    if sizes.spatial_dims != 2:
        raise UserError(
            f"{name}: {sizes.spatial_dims} spatial dimensions", expected="2", remedy="use kl"
        )
    check_channels(name, sizes.channels, sizes.norm_groups)
    levels = len(sizes.channels)
    attends = [False] * levels if sizes.attention is None else list(sizes.attention)
    if len(attends) != levels:
        raise UserError(
            f"{name}: channels has {levels} levels, attention {len(attends)}",
            remedy="change the recipe's autoencoder block",
        )
    return attends
