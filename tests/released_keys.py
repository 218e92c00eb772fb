"""Names of the released networks' tensors, by rule; the rules are held to the true lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

KEYS = Path(__file__).parents[2] / "shared" / "data" / "checkpoint_keys"
Shapes = dict[str, tuple[int, ...]]


def unet_shapes(
    channels: Sequence[int],
    attention: Sequence[bool],
    *,
    res_blocks: int,
    context: int,
    latents: int,
) -> Shapes:
    """Return what ``UNetModel`` of these sizes holds, one transformer block at each attention."""
    first, time = channels[0], 4 * channels[0]
    found = _affine("time_embed.0", (time, first))
    found |= _affine("time_embed.2", (time, time))
    found |= _affine("input_blocks.0.0", (first, latents, 3, 3))
    widths, width, n = [first], first, 1

    def block(name: str, wide_in: int, wide_out: int) -> Shapes:
        inside = _norm(f"{name}.in_layers.0", wide_in)
        inside |= _affine(f"{name}.in_layers.2", (wide_out, wide_in, 3, 3))
        inside |= _affine(f"{name}.emb_layers.1", (wide_out, time))
        inside |= _norm(f"{name}.out_layers.0", wide_out)
        inside |= _affine(f"{name}.out_layers.3", (wide_out, wide_out, 3, 3))
        if wide_in != wide_out:
            inside |= _affine(f"{name}.skip_connection", (wide_out, wide_in, 1, 1))
        return inside

    for level, (wide, attends) in enumerate(zip(channels, attention, strict=True)):
        for _ in range(res_blocks):
            found |= block(f"input_blocks.{n}.0", width, wide)
            found |= _transformer(f"input_blocks.{n}.1", wide, context) if attends else {}
            width, n = wide, n + 1
            widths.append(wide)
        if level < len(channels) - 1:
            found |= _affine(f"input_blocks.{n}.0.op", (wide, wide, 3, 3))
            n += 1
            widths.append(wide)
    found |= block("middle_block.0", width, width)
    found |= _transformer("middle_block.1", width, context)
    found |= block("middle_block.2", width, width)
    n = 0
    for level in reversed(range(len(channels))):
        wide = channels[level]
        for layer in range(res_blocks + 1):
            found |= block(f"output_blocks.{n}.0", width + widths.pop(), wide)
            attends, width = attention[level], wide
            found |= _transformer(f"output_blocks.{n}.1", wide, context) if attends else {}
            if level and layer == res_blocks:
                place = 2 if attends else 1
                found |= _affine(f"output_blocks.{n}.{place}.conv", (wide, wide, 3, 3))
            n += 1
    return found | _norm("out.0", first) | _affine("out.2", (latents, first, 3, 3))


def first_stage_shapes(
    channels: Sequence[int],
    attention: Sequence[bool],
    *,
    res_blocks: int,
    latents: int,
    codes: int | None,
) -> Shapes:
    """Return what a first stage for colour images holds; ``codes`` None: a KL one."""
    top, bottom = channels[0], channels[-1]
    encoded = latents if codes else 2 * latents
    found = _affine("encoder.conv_in", (top, 3, 3, 3))
    width = top
    for level, (wide, attends) in enumerate(zip(channels, attention, strict=True)):
        for layer in range(res_blocks):
            found |= _block(f"encoder.down.{level}.block.{layer}", width, wide)
            found |= _pixels(f"encoder.down.{level}.attn.{layer}", wide) if attends else {}
            width = wide
        if level < len(channels) - 1:
            found |= _affine(f"encoder.down.{level}.downsample.conv", (wide, wide, 3, 3))
    for side in ("encoder", "decoder"):
        found |= _block(f"{side}.mid.block_1", bottom, bottom)
        found |= _pixels(f"{side}.mid.attn_1", bottom)
        found |= _block(f"{side}.mid.block_2", bottom, bottom)
    found |= _norm("encoder.norm_out", bottom)
    found |= _affine("encoder.conv_out", (encoded, bottom, 3, 3))
    found |= _affine("decoder.conv_in", (bottom, latents, 3, 3))
    for level in reversed(range(len(channels))):
        wide = channels[level]
        for layer in range(res_blocks + 1):
            found |= _block(f"decoder.up.{level}.block.{layer}", width, wide)
            found |= _pixels(f"decoder.up.{level}.attn.{layer}", wide) if attention[level] else {}
            width = wide
        if level:
            found |= _affine(f"decoder.up.{level}.upsample.conv", (wide, wide, 3, 3))
    found |= _norm("decoder.norm_out", top) | _affine("decoder.conv_out", (3, top, 3, 3))
    found |= _affine("quant_conv", (encoded, encoded, 1, 1))
    found |= _affine("post_quant_conv", (latents, latents, 1, 1))
    return found | ({"quantize.embedding.weight": (codes, latents)} if codes else {})


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Return small random tensors; norms' weights lie around 1, codes far enough apart."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        drawn = torch.randn(shape, generator=generator) / fan_in**0.5
        if len(shape) == 1:
            drawn = 0.1 * drawn + float(name.endswith("weight"))
        state[name] = drawn
    return state


def true_shapes(name: str) -> Shapes:
    """Return a released network's list, as it lies in the shared data."""
    found: Shapes = {}
    for line in (KEYS / name).read_text().splitlines():
        key, _, shape = line.partition(" ")
        found[key] = tuple(int(size) for size in shape.strip("()").split(",") if size.strip())
    return found


def _affine(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _norm(name: str, width: int) -> Shapes:
    return _affine(name, (width,))


def _block(name: str, wide_in: int, wide_out: int) -> Shapes:
    found = _norm(f"{name}.norm1", wide_in)
    found |= _affine(f"{name}.conv1", (wide_out, wide_in, 3, 3))
    found |= _norm(f"{name}.norm2", wide_out)
    found |= _affine(f"{name}.conv2", (wide_out, wide_out, 3, 3))
    if wide_in != wide_out:
        found |= _affine(f"{name}.nin_shortcut", (wide_out, wide_in, 1, 1))
    return found


def _pixels(name: str, width: int) -> Shapes:
    found = _norm(f"{name}.norm", width)
    for kind in ("q", "k", "v", "proj_out"):
        found |= _affine(f"{name}.{kind}", (width, width, 1, 1))
    return found


def _transformer(name: str, width: int, context: int) -> Shapes:
    block = f"{name}.transformer_blocks.0"
    found = _norm(f"{name}.norm", width)
    found |= _affine(f"{name}.proj_in", (width, width, 1, 1))
    for attention, source in (("attn1", width), ("attn2", context)):
        found[f"{block}.{attention}.to_q.weight"] = (width, width)
        for kind in "kv":
            found[f"{block}.{attention}.to_{kind}.weight"] = (width, source)
        found |= _affine(f"{block}.{attention}.to_out.0", (width, width))
    found |= _affine(f"{block}.ff.net.0.proj", (8 * width, width))
    found |= _affine(f"{block}.ff.net.2", (width, 4 * width))
    for number in (1, 2, 3):
        found |= _norm(f"{block}.norm{number}", width)
    return found | _affine(f"{name}.proj_out", (width, width, 1, 1))
