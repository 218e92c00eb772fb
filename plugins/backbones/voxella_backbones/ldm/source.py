"""Latent diffusion's released networks, alone or all parts in one file, as in PathLDM's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from voxella.plugins.released import Released
from voxella.weights import not_it, read_checkpoint, state_of
from voxella.wording import listed
from voxella_backbones.ldm.keys import convert_first_stage, convert_unet
from voxella_backbones.released import released_scale

__all__ = ["LdmSource"]

_WHAT = "latent diffusion"
_UNET, _FIRST_STAGE, _TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
_TEXT_MODEL = f"{_TEXT}transformer."
_CLASSES = f"{_TEXT}embedding.weight"
# The first tensor of a denoiser and of a first stage, in the released code and in diffusers.
_FIRST_OF_UNET = ("time_embed.0.weight", "time_embedding.linear_1.weight")
_FIRST_OF_STAGE = "encoder.conv_in.weight"
# A buffer of older releases of transformers, which counts 0, 1, 2, ...
_POSITIONS = "position_ids"


class LdmSource:
    """Reads checkpoints of latent diffusion (Rombach et al. 2022, arXiv:2112.10752).

    A whole one holds ``model.diffusion_model.*``, ``first_stage_model.*`` and
    ``cond_stage_model.*``: a text encoder (PathLDM), or a table of classes. A file of a first
    stage or of a denoiser alone is read as well, in the released code's names or diffusers'. Sizes
    are read off the names.
    """

    parts: frozenset[str] = frozenset({"backbone", "conditioner", "autoencoder", "text_encoder"})
    licence: str | None = None

    def read(self, path: Path) -> Released:
        """Read a file; see :class:`voxella.plugins.released.Source`.

        Raises:
            UserError: There is no such file, or it holds none of these networks.
        """
        content = read_checkpoint(path, what=_WHAT, remedy="name the released .ckpt file")
        state = state_of(content, path, what=_WHAT)
        facts: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        if any(name.startswith((_UNET, _FIRST_STAGE)) for name in state):
            parts, left = _parts_of(state)
            scale = released_scale(state)
        else:
            parts, left, scale = _only_part(path, state), [], None
        remarks = [f"left out, of no part: {listed(left)}"] if left else []
        step = facts.get("global_step")
        return Released(
            parts,
            latent_scale=scale,
            step=step if isinstance(step, int) else 0,
            remarks=remarks,
        )


def _parts_of(state: Mapping[str, Tensor]) -> tuple[dict[str, Mapping[str, Tensor]], list[str]]:
    """Return the parts of a whole checkpoint, and the names of what is in none of them."""
    unet, first_stage = _inside(state, _UNET), _inside(state, _FIRST_STAGE)
    text = {n: t for n, t in _inside(state, _TEXT_MODEL).items() if not n.endswith(_POSITIONS)}
    parts: dict[str, Mapping[str, Tensor]] = {}
    if unet:
        parts["backbone"] = _denoiser(unet)
    if _CLASSES in state:
        parts["conditioner"] = {"embedding.weight": state[_CLASSES]}
    if first_stage:
        parts["autoencoder"] = _autoencoder(first_stage)
    if text:
        parts["text_encoder"] = text
    known = (_UNET, _FIRST_STAGE, _TEXT_MODEL, _CLASSES)
    return parts, [name for name in state if not name.startswith(known)]


def _only_part(path: Path, state: Mapping[str, Tensor]) -> dict[str, Mapping[str, Tensor]]:
    """Return the one network of a file whose names have no prefix."""
    if any(name in state for name in _FIRST_OF_UNET):
        return {"backbone": _denoiser(state)}
    if _FIRST_OF_STAGE in state:
        return {"autoencoder": _autoencoder(state)}
    raise not_it(
        path,
        state,
        f"no network of {_WHAT}",
        expected=f"names behind {_UNET} or {_FIRST_STAGE}, or {_FIRST_OF_UNET[0]} or "
        f"{_FIRST_OF_STAGE}",
    )


def _denoiser(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Of the plugin `ldm_unet`, which holds diffusers' network under this name.
    return {f"unet.{name}": t for name, t in convert_unet(state, _res_blocks(state)).items()}


def _autoencoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    levels = _numbers(state, r"encoder\.down\.(\d+)\.")
    return convert_first_stage(state, levels=1 + max(levels, default=0))


def _res_blocks(state: Mapping[str, Tensor]) -> int:
    """Return the residual blocks per level: they stand before the first halving of the grid."""
    halvings = _numbers(state, r"input_blocks\.(\d+)\.0\.op\.weight")
    blocks = _numbers(state, r"input_blocks\.(\d+)\.")
    return min(halvings, default=1 + max(blocks, default=1)) - 1


def _numbers(state: Mapping[str, Tensor], pattern: str) -> set[int]:
    return {int(match[1]) for name in state if (match := re.match(pattern, name))}


def _inside(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
