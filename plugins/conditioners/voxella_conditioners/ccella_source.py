"""The released CCELLA models: a U-Net, by variant with an adapter, and a scale in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from voxella.errors import UserError
from voxella.plugins.released import Released
from voxella.weights import not_it, read_checkpoint, state_of
from voxella_backbones.released import convert_released_state_dict as convert_unet
from voxella_backbones.released import released_scale
from voxella_conditioners.released import convert_released_state_dict as convert_adapter

__all__ = ["CcellaSource"]

_WHAT = "a released CCELLA model"
# The first convolution of the U-Net, by its own name in ours.
_FIRST = "conv_in.conv.weight"


class CcellaSource:
    """Reads the files of CCELLA's released code (arXiv:2506.10230).

    ``{"unet_state_dict": ..., "scale_factor": ..., ...}``. The variants without text (base,
    radbase) hold a bare U-Net; the others a module of U-Net (``unet.``), adapter (``ella.``) and
    last layers (``classifier``), with or without the ``module.`` of data-parallel training.
    """

    parts: frozenset[str] = frozenset({"backbone", "conditioner"})
    licence: str | None = None

    def read(self, path: Path) -> Released:
        """Read a file; see :class:`voxella.plugins.released.Source`.

        Raises:
            UserError: There is no such file, or it holds another model.
        """
        content = read_checkpoint(path, what=_WHAT, remedy="name the released .pt file")
        state = state_of(content, path, what=_WHAT)
        parts = {"backbone": convert_unet(state)}
        if _FIRST not in parts["backbone"]:
            expected = f"{_FIRST}, alone or behind unet."
            raise not_it(path, state, f"no U-Net of {_WHAT}", expected=expected)
        if any(name.startswith("unet.") for name in state):
            try:
                parts["conditioner"] = convert_adapter(state)
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
        facts: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        return Released(
            parts,
            latent_scale=released_scale(facts),
            null_text=_null_text(facts.get("null_text")),
            remarks=_remarks(facts),
        )


def _null_text(found: object) -> Tensor | None:
    if not isinstance(found, Tensor) or found.ndim not in (2, 3):
        return None
    return found.reshape(1, *found.shape[-2:])


def _remarks(facts: Mapping[str, Any]) -> list[str]:
    found = [f"trained for {facts['epoch']} epochs"] if isinstance(facts.get("epoch"), int) else []
    left_out = sorted(
        str(name) for name, value in facts.items() if isinstance(value, Mapping) and "opt" in name
    )
    return found + ([f"left out: {', '.join(left_out)}"] if left_out else [])
