"""Parameters of the released CCELLA checkpoints under our names, and ours under theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from voxella.errors import UserError

__all__ = ["convert_released_state_dict", "to_released_state_dict"]

# Released name and ours; each # is a number that both have. The released module wraps a U-Net
# ("unet"), an adapter ("ella") and, by variant, a joining layer or a last head ("classifier").
_BLOCK, _OUR_BLOCK = "ella.connector.perceiver_blocks.#", "connector.blocks.#"
_RENAMED = (
    ("ella.time_embedding.linear_#", "connector.time.fc#"),
    ("ella.connector.latents", "connector.queries"),
    ("ella.connector.time_aware_linear", "connector.query_time"),
    ("ella.connector.proj_in", "connector.text_in"),
    (f"{_BLOCK}.ln_1.linear", f"{_OUR_BLOCK}.query_norm.modulation"),
    (f"{_BLOCK}.ln_2.linear", f"{_OUR_BLOCK}.text_norm.modulation"),
    (f"{_BLOCK}.ln_ff.linear", f"{_OUR_BLOCK}.mlp_norm.modulation"),
    (f"{_BLOCK}.mlp.c_fc", f"{_OUR_BLOCK}.mlp.fc1"),
    (f"{_BLOCK}.mlp.c_proj", f"{_OUR_BLOCK}.mlp.fc2"),
    (f"{_BLOCK}.attn.out_proj", f"{_OUR_BLOCK}.attention.out"),
    ("classifier", "join"),
)
# Where the heads sit, by our conditioner's name; a model has those of one variant.
_HEADS = {
    "ccella": ("ella.connector.cascade_blocks.#.fc#", "heads.#.fc#"),
    "shared": ("ella.connector.classifier.fc#", "heads.0.fc#"),
    "first": ("ella.connector.classifier.fc#", "heads.0.fc#"),
    "last": ("classifier.fc#", "heads.0.fc#"),
}
# nn.MultiheadAttention stacks query, key and value in one tensor.
_IN_PROJ = re.compile(r"ella\.connector\.perceiver_blocks\.(\d+)\.attn\.in_proj_(weight|bias)")
_OUR_QUERY = re.compile(r"connector\.blocks\.(\d+)\.attention\.query\.(weight|bias)")

Rules = list[tuple[re.Pattern[str], str]]


def _rules(pairs: Sequence[tuple[str, str]]) -> Rules:
    """Return a pattern for each name to be replaced, and what it becomes."""
    made: Rules = []
    for old, new in pairs:
        pattern = re.escape(old).replace(re.escape("#"), r"(\d+)")
        parts = new.split("#")
        numbered = [rf"\{number}{part}" for number, part in enumerate(parts[1:], start=1)]
        made.append((re.compile(rf"{pattern}(\.weight|\.bias)?"), parts[0] + "".join(numbered)))
    return made


_TO_OURS = _rules([*_RENAMED, *dict.fromkeys(_HEADS.values())])


def convert_released_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a released model's adapter parameters to those of ``Ella`` or ``Ccella``.

    Serves all released variants (ELLA, CCELLA, SHARED, FIRST, LAST). The U-Net's parameters are
    left out: the backbone has its own names. A leading ``module.`` (a model saved from inside
    DistributedDataParallel) is ignored.

    Args:
        state: ``{released name: tensor}`` of the whole released module.

    Returns:
        ``{our name: tensor}``, to be loaded strictly.

    Raises:
        UserError: When a name is not one of the released adapter's, or there is no adapter.
    """
    converted: dict[str, Tensor] = {}
    unknown: list[str] = []
    for full_name, tensor in state.items():
        name = full_name.removeprefix("module.")
        if not name.startswith("unet."):
            renamed = _convert(name, tensor)
            unknown += [] if renamed else [name]
            converted |= renamed
    if unknown or not converted:
        told = ", ".join(unknown[:5]) or "no adapter in it (names beginning with 'ella.')"
        raise UserError(
            f"not a released CCELLA checkpoint: {told}",
            expected="parameters named unet.*, ella.* and classifier.*",
            remedy="pass the model's own state dict, not the dict that the checkpoint wraps it in",
        )
    return converted


def to_released_state_dict(state: Mapping[str, Tensor], variant: str) -> dict[str, Tensor]:
    """Return the parameters of ``Ella`` or ``Ccella`` under the released names.

    The inverse of :func:`convert_released_state_dict`, from the same table.

    Args:
        state: ``{our name: tensor}`` of the conditioner.
        variant: Our conditioner's name: ``ella``, ``ccella``, ``shared``, ``first`` or ``last``.

    Raises:
        UserError: A parameter has no name in the released code.
    """
    heads = [_HEADS[variant]] if variant in _HEADS else []
    rules = _rules([(ours, released) for released, ours in (*_RENAMED, *heads)])
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if query := _OUR_QUERY.fullmatch(name):
            block, kind = query.groups()
            both = f"connector.blocks.{block}.attention.key_value.{kind}"
            fused = f"ella.connector.perceiver_blocks.{block}.attn.in_proj_{kind}"
            converted[fused] = torch.cat([tensor, state[both]])
        elif ".attention.key_value." not in name:
            renamed = _renamed(name, rules)
            if renamed is None:
                raise UserError(
                    f"the released code has no name for {name} of conditioner {variant}",
                    expected=f"ella, {', '.join(_HEADS)}, as this release builds them",
                )
            converted[renamed] = tensor
    return converted


def _convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if fused := _IN_PROJ.fullmatch(name):
        block, kind = fused.groups()
        width = tensor.shape[0] // 3
        prefix = f"connector.blocks.{block}.attention"
        return {
            f"{prefix}.query.{kind}": tensor[:width],
            f"{prefix}.key_value.{kind}": tensor[width:],
        }
    renamed = _renamed(name, _TO_OURS)
    return {} if renamed is None else {renamed: tensor}


def _renamed(name: str, rules: Rules) -> str | None:
    for pattern, replacement in rules:
        if match := pattern.fullmatch(name):
            return match.expand(replacement) + (match.groups()[-1] or "")
    return None
