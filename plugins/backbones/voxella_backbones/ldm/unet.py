"""The U-Net of latent diffusion in two dimensions: PathLDM's and Stable Diffusion's denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_backbones.growing import Grown, zeros_like
from voxella_backbones.inputs import checked_context, checked_vectors, vector_mlp
from voxella_backbones.ldm.keys import convert_unet
from voxella_backbones.ldm.plain import give_heads, plain_middle
from voxella_backbones.weights import load_weights

__all__ = ["LdmUNet"]


class LdmUNet(nn.Module):
    """diffusers' ``UNet2DConditionModel`` (Rombach et al. 2022, arXiv:2112.10752) as a backbone.

    The released latent-diffusion network: residual blocks of two convolutions, at the levels with
    attention a transformer of one block (self-attention, attention to the context, GEGLU) behind
    each, always one in the middle, convolutions that halve and double the grid. As in the released
    code, the last convolution of each residual block, the last projection of each transformer and
    the output start at zero; diffusers leaves them random.

    PathLDM has no vectors. Here each vector of ``vectors`` is lifted to the width of the time
    embedding by a network of its own, ``<name>_layer``, and ADDED to it, as the class embedding is
    in the released code's other models. Its last layer starts at zero, so that pretrained weights
    predict at first what they did.

    Inputs are cast to the parameters' dtype; the output has the dtype of ``x``.

    Args:
        spatial_dims: 2.
        in_channels: Channels of ``x``.
        out_channels: Channels predicted.
        context_dim: Width of the context tokens; None builds a U-Net with self-attention only.
        vectors: ``{name: width}``. May be empty.
        channels: Width of each level.
        attention: Whether a level has attention.
        heads: Attention heads, of all levels or of each.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        weights: Local file to start from, in the names of the released code or of diffusers.

    Raises:
        UserError: If the sizes do not fit one another (all are named at once), or the file holds
            another network.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        context_dim: int | None,
        vectors: Mapping[str, int],
        channels: Sequence[int],
        attention: Sequence[bool],
        heads: int | Sequence[int],
        res_blocks: int,
        norm_groups: int,
        weights: Path | None = None,
    ) -> None:
        super().__init__()
        by_level = [heads] * len(channels) if isinstance(heads, int) else list(heads)
        _check_sizes(spatial_dims, vectors, channels, attention, by_level, norm_groups)
        self.context_dim = context_dim
        self.vector_widths = dict(vectors)
        self.halvings = len(channels) - 1
        kind = "CrossAttn" if context_dim is not None else "Attn"
        down = [f"{kind}DownBlock2D" if on else "DownBlock2D" for on in attention]
        up = [f"{kind}UpBlock2D" if on else "UpBlock2D" for on in reversed(attention)]
        # diffusers reads this argument as the NUMBER of heads where there is a context, and as the
        # width of a head where there is none.
        widths = [width // n for width, n in zip(channels, by_level, strict=True)]
        self.unet = UNet2DConditionModel(
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=tuple(down),
            mid_block_type="UNetMidBlock2DCrossAttn" if context_dim is not None else None,
            up_block_types=tuple(up),
            block_out_channels=tuple(channels),
            layers_per_block=res_blocks,
            cross_attention_dim=1 if context_dim is None else context_dim,
            attention_head_dim=tuple(widths if context_dim is None else by_level),
            norm_num_groups=norm_groups,
            # "identity" adds what the call names as class labels to the time embedding.
            class_embed_type="identity" if vectors else None,
        )
        if context_dim is None:
            self.unet.mid_block = plain_middle(channels, widths[-1], norm_groups)
            give_heads(self.unet.up_blocks, by_level[::-1])
        for name, size in self.vector_widths.items():
            self.add_module(f"{name}_layer", vector_mlp(size, 4 * channels[0]))
        self._start_at_zero()
        # On the device `meta` parameters are counted, not read.
        if weights is not None and not self.unet.conv_in.weight.is_meta:
            convert = partial(convert_unet, res_blocks=res_blocks)
            load_weights(self.unet, weights, convert)

    def _start_at_zero(self) -> None:
        last: list[nn.Module] = [self.unet.conv_out]
        for module in self.unet.modules():
            if isinstance(module, ResnetBlock2D):
                last.append(module.conv2)
            elif isinstance(module, Transformer2DModel):
                last.append(module.proj_out)
            elif isinstance(module, Attention) and module.group_norm is not None:
                last.append(module.to_out[0])
        last += [self.get_submodule(f"{name}_layer.2") for name in self.vector_widths]
        for layer in last:
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Predict from a noised latent.

        Args:
            x: ``(B, C, H, W)``; both axes multiples of ``2 ** (levels - 1)``.
            timesteps: ``(B,)``, in steps of the schedule.
            conditioning: Exactly the vectors, and the context if any, that were built in. Each
                sample has at least one token that its mask shows.

        Returns:
            ``(B, out_channels, H, W)`` in the dtype of ``x``.

        Raises:
            ValueError: If the conditioning is not what the network was built for.
            UserError: If the latent cannot be halved often enough.
        """
        self._check_grid(x)
        dtype, batch = self.unet.conv_in.weight.dtype, x.shape[0]
        vectors = checked_vectors(conditioning, self.vector_widths, batch, dtype)
        context, mask = checked_context(conditioning, self.context_dim, batch, dtype)
        lifted = [
            self.get_submodule(f"{name}_layer")(vector)
            for name, vector in zip(self.vector_widths, vectors, strict=True)
        ]
        (out,) = self.unet(
            x.to(dtype),
            timesteps,
            encoder_hidden_states=context,
            encoder_attention_mask=mask,
            class_labels=torch.stack(lifted).sum(dim=0) if lifted else None,
            return_dict=False,
        )
        predicted: Tensor = out
        return predicted.to(x.dtype)

    def _check_grid(self, x: Tensor) -> None:
        divisor = 2**self.halvings
        if any(size % divisor for size in x.shape[2:]):
            raise UserError(
                f"ldm_unet: a latent of {tuple(x.shape[2:])} cannot be halved "
                f"{self.halvings} times",
                expected=f"multiples of {divisor} along each axis",
                remedy="change latent.size, or give the backbone fewer channels entries",
            )

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Recompute residual and attention blocks in the backward pass; no value changes."""
        if enabled:
            self.unet.enable_gradient_checkpointing(_checkpointed)
        else:
            self.unet.disable_gradient_checkpointing()

    def grown(self, state: Mapping[str, Tensor]) -> Grown:
        """Fit a state without some of the vectors, see ``growing``: they are added as zeros."""
        own, grown = self.state_dict(), dict(state)
        new = [n for n in self.vector_widths if f"{n}_layer.0.weight" not in state]
        for name in new:
            for kind in ("weight", "bias"):
                last = f"{name}_layer.2.{kind}"
                grown[last] = zeros_like(own, last)
        random = tuple(f"{name}_layer.0." for name in new)
        return grown, frozenset(n for n in own.keys() - grown.keys() if n.startswith(random))


def _checkpointed(module: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401 - any block's
    # Keeps the autocast state, unlike the released code's own; the blocks draw no random numbers.
    return checkpoint(module, *args, use_reentrant=False, preserve_rng_state=False)


def _check_sizes(
    spatial_dims: int,
    vectors: Mapping[str, int],
    channels: Sequence[int],
    attention: Sequence[bool],
    heads: Sequence[int],
    norm_groups: int,
) -> None:
    """Refuse sizes that diffusers would refuse one by one, or not at all."""
    if spatial_dims != 2:
        raise UserError(
            f"ldm_unet: {spatial_dims} spatial dimensions", expected="2", remedy="use maisi_unet"
        )
    levels, problems = len(channels), []
    if not channels or len(attention) != levels or len(heads) != levels:
        problems.append(
            f"channels has {levels} levels, attention {len(attention)}, heads {len(heads)}"
        )
    problems += [
        f"channels: {width} is not a multiple of norm_groups {norm_groups}"
        for width in channels
        if norm_groups < 1 or width % norm_groups
    ]
    # The bottom of the U has attention always.
    attending = [*attention[:-1], True]
    problems += [
        f"heads: {n} do not divide the width {width} of their level"
        for width, on, n in zip(channels, attending, heads, strict=False)
        if n < 1 or (on and width % n)
    ]
    problems += [
        f"vectors: {name!r} cannot name a vector (letters, digits and _ only)"
        for name in vectors
        if not name.isidentifier()
    ]
    if problems:
        raise UserError(
            "ldm_unet: " + "; ".join(problems), remedy="change the recipe's backbone block"
        )
