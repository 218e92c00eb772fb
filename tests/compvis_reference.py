"""Latent diffusion's networks written from their formulas, over a state dict in released names.

A second opinion for the key maps: nothing here knows diffusers. Every tensor that a network reads
is taken out of a :class:`Tensors`, so that a test can ask whether all were read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


class Tensors:
    """A state dict that remembers what was read of it."""

    def __init__(self, state: Mapping[str, Tensor], groups: int) -> None:
        self.state, self.groups = state, groups
        self.read: set[str] = set()

    def has(self, name: str) -> bool:
        return name in self.state

    def get(self, name: str) -> Tensor | None:
        if name in self.state:
            self.read.add(name)
        return self.state.get(name)

    def linear(self, name: str, x: Tensor) -> Tensor:
        weight = self.get(f"{name}.weight")
        assert weight is not None, name
        return functional.linear(x, weight, self.get(f"{name}.bias"))

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        weight = self.get(f"{name}.weight")
        assert weight is not None, name
        around = weight.shape[-1] // 2 if padding is None else padding
        return functional.conv2d(x, weight, self.get(f"{name}.bias"), stride, around)

    def group_norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        weight, bias = self.get(f"{name}.weight"), self.get(f"{name}.bias")
        return functional.group_norm(x, self.groups, weight, bias, eps)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.get(f"{name}.weight"), self.get(f"{name}.bias")
        return functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)


def unet(t: Tensors, x: Tensor, timesteps: Tensor, context: Tensor, heads: list[int]) -> Tensor:
    """``UNetModel``: ``heads`` by level, the finest first."""
    first = t.state["time_embed.0.weight"].shape[1]
    half = first // 2
    angles = timesteps[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    emb = t.linear("time_embed.2", functional.silu(t.linear("time_embed.0", waves)))
    level, skips = 0, []
    count = 1 + max(int(n.split(".")[1]) for n in t.state if n.startswith("input_blocks"))
    h = x
    for n in range(count):
        level += t.has(f"input_blocks.{n}.0.op.weight")
        # The convolution that halves the grid has no attention, so the level it leads to is right.
        h = _sequence(t, f"input_blocks.{n}", h, emb, context, heads[level])
        skips.append(h)
    h = _sequence(t, "middle_block", h, emb, context, heads[level])
    for n in range(count):
        h = torch.cat([h, skips.pop()], dim=1)
        h = _sequence(t, f"output_blocks.{n}", h, emb, context, heads[level])
        level -= any(t.has(f"output_blocks.{n}.{i}.conv.weight") for i in range(3))
    return t.conv("out.2", functional.silu(t.group_norm("out.0", h, 1e-5)))


def _sequence(t: Tensors, name: str, h: Tensor, emb: Tensor, context: Tensor, heads: int) -> Tensor:
    for item in (f"{name}.{i}" for i in range(3)):
        if t.has(f"{item}.in_layers.0.weight"):
            h = _res_block(t, item, h, emb)
        elif t.has(f"{item}.proj_in.weight"):
            h = _transformer(t, item, h, context, heads)
        elif t.has(f"{item}.op.weight"):
            h = t.conv(f"{item}.op", h, stride=2)
        elif t.has(f"{item}.conv.weight"):
            h = t.conv(f"{item}.conv", _doubled(h))
        elif t.has(f"{item}.weight"):
            h = t.conv(item, h)
    return h


def _doubled(h: Tensor) -> Tensor:
    return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def _res_block(t: Tensors, name: str, x: Tensor, emb: Tensor) -> Tensor:
    h = t.conv(f"{name}.in_layers.2", functional.silu(t.group_norm(f"{name}.in_layers.0", x, 1e-5)))
    h = h + t.linear(f"{name}.emb_layers.1", functional.silu(emb))[:, :, None, None]
    h = functional.silu(t.group_norm(f"{name}.out_layers.0", h, 1e-5))
    h = t.conv(f"{name}.out_layers.3", h)
    skip = f"{name}.skip_connection"
    return h + (t.conv(skip, x) if t.has(f"{skip}.weight") else x)


def _attention(t: Tensors, name: str, x: Tensor, context: Tensor, heads: int) -> Tensor:
    def split(tokens: Tensor) -> Tensor:
        batch, length, width = tokens.shape
        return tokens.reshape(batch, length, heads, width // heads).transpose(1, 2)

    q = split(t.linear(f"{name}.to_q", x))
    k, v = (split(t.linear(f"{name}.to_{kind}", context)) for kind in "kv")
    weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return t.linear(f"{name}.to_out.0", (weights @ v).transpose(1, 2).flatten(2))


def _transformer(t: Tensors, name: str, x: Tensor, context: Tensor, heads: int) -> Tensor:
    h = t.conv(f"{name}.proj_in", t.group_norm(f"{name}.norm", x, 1e-6))
    tokens, block = h.flatten(2).transpose(1, 2), f"{name}.transformer_blocks.0"
    normed = t.layer_norm(f"{block}.norm1", tokens)
    tokens = tokens + _attention(t, f"{block}.attn1", normed, normed, heads)
    normed = t.layer_norm(f"{block}.norm2", tokens)
    tokens = tokens + _attention(t, f"{block}.attn2", normed, context, heads)
    value, gate = t.linear(f"{block}.ff.net.0.proj", t.layer_norm(f"{block}.norm3", tokens)).chunk(
        2, dim=-1
    )
    tokens = tokens + t.linear(f"{block}.ff.net.2", value * functional.gelu(gate))
    return x + t.conv(f"{name}.proj_out", tokens.transpose(1, 2).reshape(h.shape))


def encoder(t: Tensors, x: Tensor) -> Tensor:
    """``Encoder``, then the 1 x 1 convolution; of images in [-1, 1]."""
    h, level = t.conv("encoder.conv_in", x), 0
    while t.has(f"encoder.down.{level}.block.0.conv1.weight"):
        h = _level(t, f"encoder.down.{level}", h)
        if t.has(f"encoder.down.{level}.downsample.conv.weight"):
            padded = functional.pad(h, (0, 1, 0, 1))
            h = t.conv(f"encoder.down.{level}.downsample.conv", padded, stride=2, padding=0)
        level += 1
    h = _middle(t, "encoder.mid", h)
    h = t.conv("encoder.conv_out", functional.silu(t.group_norm("encoder.norm_out", h, 1e-6)))
    return t.conv("quant_conv", h)


def decoder(t: Tensors, z: Tensor) -> Tensor:
    """The other 1 x 1 convolution, then ``Decoder``; levels run from the coarsest."""
    h = _middle(t, "decoder.mid", t.conv("decoder.conv_in", t.conv("post_quant_conv", z)))
    levels = {int(n.split(".")[2]) for n in t.state if n.startswith("decoder.up.")}
    for level in sorted(levels, reverse=True):
        h = _level(t, f"decoder.up.{level}", h)
        if t.has(f"decoder.up.{level}.upsample.conv.weight"):
            h = t.conv(f"decoder.up.{level}.upsample.conv", _doubled(h))
    return t.conv("decoder.conv_out", functional.silu(t.group_norm("decoder.norm_out", h, 1e-6)))


def quantise(t: Tensors, z: Tensor) -> Tensor:
    """Return the nearest code of every voxel, all distances written out."""
    codes = t.get("quantize.embedding.weight")
    assert codes is not None
    flat = z.movedim(1, -1).reshape(-1, codes.shape[1])
    distances = (flat[:, None] - codes[None]).square().sum(dim=-1)
    return codes[distances.argmin(dim=1)].reshape(z.movedim(1, -1).shape).movedim(-1, 1)


def _level(t: Tensors, name: str, h: Tensor) -> Tensor:
    layer = 0
    while t.has(f"{name}.block.{layer}.conv1.weight"):
        h = _plain_block(t, f"{name}.block.{layer}", h)
        if t.has(f"{name}.attn.{layer}.q.weight"):
            h = _pixel_attention(t, f"{name}.attn.{layer}", h)
        layer += 1
    return h


def _middle(t: Tensors, name: str, h: Tensor) -> Tensor:
    h = _plain_block(t, f"{name}.block_1", h)
    return _plain_block(t, f"{name}.block_2", _pixel_attention(t, f"{name}.attn_1", h))


def _plain_block(t: Tensors, name: str, x: Tensor) -> Tensor:
    h = t.conv(f"{name}.conv1", functional.silu(t.group_norm(f"{name}.norm1", x, 1e-6)))
    h = t.conv(f"{name}.conv2", functional.silu(t.group_norm(f"{name}.norm2", h, 1e-6)))
    skip = f"{name}.nin_shortcut"
    return h + (t.conv(skip, x) if t.has(f"{skip}.weight") else x)


def _pixel_attention(t: Tensors, name: str, x: Tensor) -> Tensor:
    normed = t.group_norm(f"{name}.norm", x, 1e-6)
    q, k, v = (t.conv(f"{name}.{kind}", normed).flatten(2) for kind in "qkv")
    weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(dim=-1)
    return x + t.conv(f"{name}.proj_out", (v @ weights.transpose(1, 2)).reshape(x.shape))
