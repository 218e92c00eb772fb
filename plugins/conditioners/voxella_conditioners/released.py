"""Parameters of the released CCELLA checkpoints under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from voxella.errors import UserError

__all__ = ["convert_released_state_dict"]

# Released prefix -> ours. The released module wraps a U-Net ("unet"), an adapter ("ella") and, by
# variant, a joining layer or a last head ("classifier").
_RENAMED = [
    (r"ella\.time_embedding\.linear_([12])", r"connector.time.fc\1"),
    (r"ella\.connector\.latents", r"connector.queries"),
    (r"ella\.connector\.time_aware_linear", r"connector.query_time"),
    (r"ella\.connector\.proj_in", r"connector.text_in"),
    (r"ella\.connector\.perceiver_blocks\.(\d+)\.ln_1\.linear", r"B.query_norm.modulation"),
    (r"ella\.connector\.perceiver_blocks\.(\d+)\.ln_2\.linear", r"B.text_norm.modulation"),
    (r"ella\.connector\.perceiver_blocks\.(\d+)\.ln_ff\.linear", r"B.mlp_norm.modulation"),
    (r"ella\.connector\.perceiver_blocks\.(\d+)\.mlp\.c_fc", r"B.mlp.fc1"),
    (r"ella\.connector\.perceiver_blocks\.(\d+)\.mlp\.c_proj", r"B.mlp.fc2"),
    (r"ella\.connector\.perceiver_blocks\.(\d+)\.attn\.out_proj", r"B.attention.out"),
    (r"ella\.connector\.cascade_blocks\.(\d+)\.(fc[12])", r"heads.\1.\2"),
    (r"ella\.connector\.classifier\.(fc[12])", r"heads.0.\1"),
    (r"classifier\.(fc[12])", r"heads.0.\1"),
    (r"classifier", r"join"),
]
_RULES = [
    (re.compile(rf"{old}(\.weight|\.bias)?"), new.replace("B.", r"connector.blocks.\1."))
    for old, new in _RENAMED
]
_IN_PROJ = re.compile(r"ella\.connector\.perceiver_blocks\.(\d+)\.attn\.in_proj_(weight|bias)")


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


def _convert(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if fused := _IN_PROJ.fullmatch(name):
        block, kind = fused.groups()
        width = tensor.shape[0] // 3  # nn.MultiheadAttention stacks query, key and value
        prefix = f"connector.blocks.{block}.attention"
        return {
            f"{prefix}.query.{kind}": tensor[:width],
            f"{prefix}.key_value.{kind}": tensor[width:],
        }
    for pattern, replacement in _RULES:
        if match := pattern.fullmatch(name):
            suffix = match.groups()[-1] or ""
            return {match.expand(replacement) + suffix: tensor}
    return {}
