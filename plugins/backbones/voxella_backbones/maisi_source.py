"""MAISI's and NV-Generate's released networks: denoisers of both kinds, autoencoders v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxella.plugins.released import Released
from voxella.weights import not_it, read_checkpoint, state_of
from voxella_backbones.maisi_autoencoder import convert_autoencoder
from voxella_backbones.released import convert_released_state_dict, released_scale

__all__ = ["MaisiSource"]

_WHAT = "a network of MAISI"
# A tensor that each of the two has, whatever its sizes, and the other has not.
_DENOISER = "conv_in.conv.weight"
_AUTOENCODER = "quant_conv_mu.conv.weight"
_TABLE = "class_embedding.weight"


class MaisiSource:
    """Reads what MAISI (arXiv:2409.11169) and NV-Generate release, one network a file.

    Denoisers: ``{"unet_state_dict": ..., "scale_factor": ..., ...}``, DDPM and rectified flow.
    Autoencoders: names to tensors, of the first release and of later ones.
    """

    parts: frozenset[str] = frozenset({"backbone", "autoencoder"})
    licence: str | None = (
        "NVIDIA Non-Commercial License for NV-Generate-MR, NVIDIA Open Model License for the others"
    )

    def read(self, path: Path) -> Released:
        """Read a file; see :class:`voxella.plugins.released.Source`.

        Raises:
            UserError: There is no such file, or it holds another network.
        """
        content = read_checkpoint(path, what=_WHAT, remedy="name the released .pt file")
        state = state_of(content, path, what=_WHAT)
        facts: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        if _AUTOENCODER in state:
            return Released({"autoencoder": convert_autoencoder(state)})
        denoiser = convert_released_state_dict(state)
        if _DENOISER not in denoiser:
            neither = "neither a denoiser nor an autoencoder of MAISI"
            raise not_it(path, state, neither, expected=f"{_DENOISER} or {_AUTOENCODER}")
        remarks = []
        if _TABLE in denoiser:
            rows = denoiser[_TABLE].shape[0]
            remarks.append(
                f"the file has a table of {rows} modalities: MAISI's denoisers with one are flows, "
                "which need backbone.maisi_flow=true (recipes/maisi/flow.yaml)"
            )
        return Released({"backbone": denoiser}, latent_scale=released_scale(facts), remarks=remarks)
