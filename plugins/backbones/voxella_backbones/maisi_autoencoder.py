"""MAISI's variational autoencoder with weights from a local file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import (
    AutoencoderKlMaisi,
    MaisiGroupNorm3D,
)
from torch import Tensor

from voxella.errors import UserError
from voxella_backbones.latent_contract import LatentContract, check_channels

__all__ = ["MaisiAutoencoder", "convert_autoencoder"]

# The first convolution, as the first releases name it.
_UNSPLIT = "encoder.blocks.0.conv.weight"
_SPLIT_AXIS = 1  # the axis that the released configuration cuts
_MIN_SPLIT = 4  # voxels: a part must be wider than MONAI's overlap of three


class MaisiAutoencoder(LatentContract, AutoencoderKlMaisi):  # type: ignore[misc]  # MONAI is untyped
    """MONAI's ``AutoencoderKlMaisi`` (Guo et al. 2024, arXiv:2409.11169), without attention.

    The released model runs its group norms in float16 (``norm_float16``), which only works under
    CUDA's autocast. Here the switch brings that autocast along, and is without effect on the CPU.

    Args:
        spatial_dims: 3.
        in_channels: Image channels.
        latent_channels: Channels of the latent.
        weights: Local weights file, in the form MAISI releases it, or None.
        channels: Width of each level.
        res_blocks: Residual blocks per level.
        norm_groups: Groups of the group norms.
        num_splits: Parts into which each convolution cuts the second axis. Costs time, changes no
            value; of tensors alive, whole volumes of the paper's size need 13.8 GB to encode and
            20.6 GB to decode, in 8 parts 14.4 and 22.6
            (:func:`voxella.autoencoder.tiling.memory.pass_bytes`).
        norm_float16: Float16 on CUDA.

    Raises:
        UserError: If the sizes do not fit one another or the file does not fit them.
    """

    def __init__(
        self,
        *,
        spatial_dims: int,
        in_channels: int,
        latent_channels: int,
        weights: Path | None,
        channels: Sequence[int],
        res_blocks: int,
        norm_groups: int,
        num_splits: int,
        norm_float16: bool,
    ) -> None:
        if spatial_dims != 3:
            raise UserError(
                f"maisi: {spatial_dims} spatial dimensions", expected="3", remedy="use kl for 2D"
            )
        check_channels("maisi", channels, norm_groups)
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=in_channels,
            num_res_blocks=(res_blocks,) * len(channels),
            num_channels=tuple(channels),
            attention_levels=(False,) * len(channels),
            latent_channels=latent_channels,
            norm_num_groups=norm_groups,
            num_splits=num_splits,
            dim_split=_SPLIT_AXIS,
            # Emptying CUDA's cache after every step pays only where memory is that short.
            save_mem=num_splits > 1,
        )
        self.num_splits = num_splits
        self.norm_float16 = norm_float16
        self.finish(channels, weights, convert=convert_autoencoder)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma; see :class:`LatentContract`."""
        self._check_split(images.shape[2 + _SPLIT_AXIS] // self.factor)
        with self._precision(images.device):
            return super().encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images; see :class:`LatentContract`."""
        self._check_split(latents.shape[2 + _SPLIT_AXIS])
        with self._precision(latents.device):
            return super().decode(latents)

    def _precision(self, device: torch.device) -> torch.autocast:
        """Return the autocast to run under, after telling the norms of it."""
        # While it is fine-tuned, float16 would need loss scaling.
        half = self.norm_float16 and device.type == "cuda" and not self.training
        for module in self.modules():
            if isinstance(module, MaisiGroupNorm3D):
                module.norm_float16 = half
        if not half:
            # Keep what the caller chose.
            enabled = torch.is_autocast_enabled(device.type)
            dtype = torch.get_autocast_dtype(device.type)
            return torch.autocast(device.type, dtype=dtype, enabled=enabled)
        return torch.autocast("cuda", dtype=torch.float16)

    def _check_split(self, latent_size: int) -> None:
        """Refuse sizes that MONAI's splitting would cut wrongly without a word."""
        parts, rest = divmod(latent_size, self.num_splits)
        if self.num_splits > 1 and (rest or parts < _MIN_SPLIT):
            unit = self.num_splits * self.factor
            raise UserError(
                f"maisi: num_splits {self.num_splits} cannot cut an image of "
                f"{latent_size * self.factor} voxels along its second axis",
                expected=f"multiples of {unit}, at least {_MIN_SPLIT * unit}",
                remedy="lower num_splits in the recipe's autoencoder block",
            )


def convert_autoencoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map the names of MAISI's first releases, which knew no splitting, to MONAI's.

    Args:
        state: Of any release; later ones have MONAI's names, which stay.
    """
    if _UNSPLIT not in state:
        return dict(state)
    return {
        re.sub(r"^((?:en|de)coder\..*conv)\.(weight|bias)$", r"\1.conv.\2", name): tensor
        for name, tensor in state.items()
    }
