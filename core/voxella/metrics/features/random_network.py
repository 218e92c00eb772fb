"""A small network of random weights, for where no weights may be had: ``random-seed0``.

Random convolutions tell textures and shapes apart well enough to rank generators of one data set
(Naeem et al. 2020, section 5, use such features where a trained network's do not apply), but their
numbers mean nothing beside any others, the paper's least of all. Hence the name.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from voxella.hashing import sha256_bytes, sha256_json
from voxella.metrics.features.network import PLANES, Plane, TorchFeatures
from voxella.philox import keyed_generator

__all__ = ["RandomNetwork", "random_networks"]

_STEM = (8, 16)


def random_networks(
    *, dim: int = 16, seed: int = 0, channels: int = 1, device: torch.device | str = "cpu"
) -> list[TorchFeatures]:
    """Return ``random-seed0`` for volumes, and one each for sagittal, coronal and axial slices.

    Args:
        dim: Width of a vector. Small, so that a few dozen cases outnumber the features, which the
            Fréchet distance needs.
        seed: Of the weights; the name states it.
        channels: Of the images, 1 or 3; the name states the colours.
        device: Where to compute.
    """
    return [_network(plane, dim, seed, channels, device) for plane in (None, *PLANES)]


def _network(
    plane: Plane | None, dim: int, seed: int, channels: int, device: torch.device | str
) -> TorchFeatures:
    module = RandomNetwork(3 if plane is None else 2, dim, seed, channels)
    own = _name(seed) if channels == 1 else f"{_name(seed)}-colour"
    name = own if plane is None else f"{own}-{plane}"
    weights = b"".join(tensor.numpy().tobytes() for tensor in module.state_dict().values())
    return TorchFeatures(
        name=name,
        fingerprint=sha256_json([name, dim, sha256_bytes(weights)]),
        dim=dim,
        comparable_with_paper=False,
        module=module.eval().requires_grad_(False).to(device),
        plane=plane,
        channels=channels,
        device=device,
    )


def _name(seed: int) -> str:
    return f"random-seed{seed}"


class RandomNetwork(nn.Module):
    """Three strided convolutions, ReLUs between, averaged over space.

    Args:
        spatial_dims: 2 or 3.
        dim: Width of a vector.
        seed: Of the weights.
        channels: Of the images.
    """

    def __init__(self, spatial_dims: int, dim: int, seed: int = 0, channels: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        widths = (channels, *_STEM, dim)
        self.layers = nn.ModuleList(
            convolution(width, after, 3, stride=2, padding=1) for width, after in pairwise(widths)
        )
        # Drawn by numpy's Philox: the same for ever, whatever torch makes of its own generator.
        purpose = f"{_name(seed)}/{spatial_dims}d/{dim}" + ("" if channels == 1 else f"/{channels}")
        generator = keyed_generator(seed, purpose)
        for tensor in self.parameters():
            # He et al. 2015, equation 10: activations keep their scale through ReLUs.
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 9 * _STEM[0]
            drawn = generator.normal(scale=(2.0 / fan_in) ** 0.5, size=tuple(tensor.shape))
            tensor.data.copy_(torch.from_numpy(drawn))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, dim)`` of ``(B, channels, *spatial)``."""
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        # No ReLU on the last: a feature that is 0 for every case has no variance.
        x = self.layers[-1](x)
        return x.flatten(2).mean(dim=2)
