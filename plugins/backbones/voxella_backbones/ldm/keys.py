"""Names of parameters in checkpoints of latent-diffusion, and diffusers' names for them.

The released code names parameters by their place in lists; diffusers by level and layer. A
checkpoint of the diffusion model holds the denoiser, the first stage and the text encoder under one
prefix each; one of a first stage holds its losses' networks as well. What belongs to another part
is left out here; the rest is renamed, never dropped, so that a strict load sees all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

__all__ = ["convert_first_stage", "convert_unet", "only_part"]

_UNET_PREFIXES = ("model.diffusion_model.", "backbone.unet.")
_FIRST_STAGE_PREFIXES = ("first_stage_model.",)
# Networks of the training losses: LPIPS and the discriminator. Buffers of an average.
_NOT_THE_NETWORK = ("loss.", "model_ema.")

_RES_BLOCK = {
    "in_layers.0.": "norm1.",
    "in_layers.2.": "conv1.",
    "emb_layers.1.": "time_emb_proj.",
    "out_layers.0.": "norm2.",
    "out_layers.3.": "conv2.",
    "skip_connection.": "conv_shortcut.",
}
_UNET_ENDS = {
    "time_embed.0.": "time_embedding.linear_1.",
    "time_embed.2.": "time_embedding.linear_2.",
    "input_blocks.0.0.": "conv_in.",
    "middle_block.0.": "mid_block.resnets.0.",
    "middle_block.1.": "mid_block.attentions.0.",
    "middle_block.2.": "mid_block.resnets.1.",
    "out.0.": "conv_norm_out.",
    "out.2.": "conv_out.",
}
_ATTENTION = {
    "norm.": "group_norm.",
    "q.": "to_q.",
    "k.": "to_k.",
    "v.": "to_v.",
    "proj_out.": "to_out.0.",
}
_IN_LEVEL = re.compile(
    r"(encoder\.down|decoder\.up)\.(\d+)\.(block|attn|downsample|upsample)\.(.+)"
)
_IN_MIDDLE = re.compile(r"((?:en|de)coder)\.mid\.(block|attn)_(\d)\.(.+)")
_INPUT = re.compile(r"input_blocks\.(\d+)\.(\d)\.(.+)")
_OUTPUT = re.compile(r"output_blocks\.(\d+)\.(\d)\.(.+)")


def only_part(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Return what stands under the first of ``prefixes`` that occurs, without it; else everything.

    Args:
        state: Names to tensors of a whole checkpoint.
        prefixes: Of the part that is wanted.
    """
    for prefix in prefixes:
        inside = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        if inside:
            return inside
    return dict(state)


def convert_unet(state: Mapping[str, Tensor], res_blocks: int) -> dict[str, Tensor]:
    """Return a denoiser's parameters under the names of diffusers' ``UNet2DConditionModel``.

    Args:
        state: Of the denoiser alone, with or without the prefix that it has in a checkpoint of the
            whole model, or that whole checkpoint.
        res_blocks: Residual blocks per level.
    """
    part = only_part(state, _UNET_PREFIXES)
    return {_unet_name(name, res_blocks): tensor for name, tensor in part.items()}


def convert_first_stage(state: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """Return an autoencoder's parameters under the names of diffusers' classes.

    Serves VQ and KL. The codebook keeps its name. In released files the decoder's levels count
    from the finest, in diffusers from the coarsest; attention there is made of 1 x 1 convolutions,
    here of matrices.

    Args:
        state: Of a first stage's checkpoint, or of one of the whole diffusion model.
        levels: Number of levels.
    """
    part = only_part(state, _FIRST_STAGE_PREFIXES)
    converted = {}
    for name, tensor in part.items():
        if not name.startswith(_NOT_THE_NETWORK):
            renamed = _first_stage_name(name, levels)
            squeeze = ".attentions." in renamed and tensor.ndim == 4 and tensor.shape[2:] == (1, 1)
            converted[renamed] = tensor[:, :, 0, 0] if squeeze else tensor
    return converted


def _unet_name(name: str, res_blocks: int) -> str:
    for old, new in _UNET_ENDS.items():
        if name.startswith(old):
            return new + _renamed(name.removeprefix(old), _RES_BLOCK)
    stride = res_blocks + 1
    if match := _INPUT.fullmatch(name):
        place, item, rest = int(match[1]) - 1, match[2], match[3]
        level, layer = divmod(place, stride)
        if layer == res_blocks:
            rest = rest.removeprefix("op.")
            return f"down_blocks.{level}.downsamplers.0.conv.{rest}"
        return f"down_blocks.{level}.{_layer(item, layer, rest)}"
    if match := _OUTPUT.fullmatch(name):
        level, layer = divmod(int(match[1]), stride)
        if match[3].startswith("conv."):
            # Behind the attention where the level has one, behind the residual block where not.
            return f"up_blocks.{level}.upsamplers.0.{match[3]}"
        return f"up_blocks.{level}.{_layer(match[2], layer, match[3])}"
    return name


def _layer(item: str, layer: int, rest: str) -> str:
    if item == "0":
        return f"resnets.{layer}.{_renamed(rest, _RES_BLOCK)}"
    return f"attentions.{layer}.{rest}"


def _first_stage_name(name: str, levels: int) -> str:
    name = re.sub(r"^((?:en|de)coder)\.norm_out\.", r"\1.conv_norm_out.", name)
    if match := _IN_MIDDLE.fullmatch(name):
        side, kind, number, rest = match.groups()
        if kind == "block":
            return f"{side}.mid_block.resnets.{int(number) - 1}.{_block(rest)}"
        return f"{side}.mid_block.attentions.{int(number) - 1}.{_renamed(rest, _ATTENTION)}"
    if match := _IN_LEVEL.fullmatch(name):
        side, number, kind, rest = match.groups()
        up = side == "decoder.up"
        level = levels - 1 - int(number) if up else int(number)
        place = f"{'decoder.up' if up else 'encoder.down'}_blocks.{level}"
        if kind in ("downsample", "upsample"):
            return f"{place}.{kind}rs.0.{rest}"
        layer, _, rest = rest.partition(".")
        if kind == "block":
            return f"{place}.resnets.{layer}.{_block(rest)}"
        return f"{place}.attentions.{layer}.{_renamed(rest, _ATTENTION)}"
    return name


def _block(rest: str) -> str:
    return _renamed(rest, {"nin_shortcut.": "conv_shortcut."})


def _renamed(name: str, rules: Mapping[str, str]) -> str:
    for old, new in rules.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
