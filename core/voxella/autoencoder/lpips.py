"""LPIPS: how far two images in colour lie apart in the features of a VGG16 trained on ImageNet.

Zhang et al. 2018 (arXiv:1801.03924), in the version 0.1 that latent diffusion's first stages are
trained with. Weights come from two local files, in the layouts that they are released in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.recipe.training import Perceptual
from voxella.weights import compare_keys, read_state_dict

__all__ = ["LPIPS", "PerceptualLoss", "check_images", "load_lpips"]

# VGG16's configuration D (Simonyan and Zisserman 2015): convolutions and channels of each block.
_BLOCKS = (2, 2, 3, 3, 3)
_WIDTHS = (64, 128, 256, 512, 512)
# Mean and standard deviation of ImageNet, for images in [-1, 1].
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_TINY = 1e-10
# Four poolings halve the image, and one pixel has to be left.
_SHORTEST = 16


class LPIPS(nn.Module):
    """The distance, differentiable in both images; all its parameters are frozen.

    Features after the last ReLU of each of five blocks are scaled to unit length in every pixel;
    their squared differences are weighed by channel, summed, and averaged over the pixels. The
    weights' dropout, which LPIPS itself was trained with, is left out: it is no part of the
    distance.

    Args:
        widths: Channels of the blocks.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self._ends: list[int] = []
        channels = 3
        for count, width in zip(_BLOCKS, widths, strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self._ends.append(len(layers) - 1)
        # Numbered as in torchvision.
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in widths)
        for name, values in (("shift", _SHIFT), ("scale", _SCALE)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the distances of two ``(B, 3, H, W)`` in [0, 1]: ``(B,)`` float32."""
        total = torch.zeros(len(images), device=images.device)
        pairs = zip(self._features(images), self._features(targets), strict=True)
        for head, (one, two) in zip(self.heads, pairs, strict=True):
            # In float32, whatever the convolutions were computed in.
            squares = (_unit(one.float()) - _unit(two.float())).square()
            weights = cast("Tensor", head.weight).float().reshape(1, -1, 1, 1)
            total = total + (squares * weights).sum(dim=1).mean(dim=(1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        x = (2.0 * images - 1.0 - self.shift) / self.scale
        found = []
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self._ends:
                found.append(x)
        return found


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + _TINY)


def load_lpips(vgg16: Path, heads: Path, widths: Sequence[int] = _WIDTHS) -> LPIPS:
    """Return the network with released weights. Runs no code that the files may hold.

    Args:
        vgg16: torchvision's file: ``features.N.weight`` and ``.bias``; its classifier is not used.
        heads: LPIPS' file: ``lin0.model.1.weight`` to ``lin4.model.1.weight``, ``(1, C, 1, 1)``.
        widths: Channels of the blocks.

    Raises:
        UserError: A file is missing, unreadable or of another layout; what differs is said.
    """
    module = LPIPS(widths)
    _load(
        module.features,
        vgg16,
        what="VGG16 (torchvision)",
        key="vgg16",
        layout="features.0.weight ... features.28.bias",
        renamed=lambda name: name.removeprefix("features."),
        ignored=("classifier.",),
    )
    _load(
        module.heads,
        heads,
        what="LPIPS' heads for VGG16",
        key="heads",
        layout="lin0.model.1.weight ... lin4.model.1.weight",
        renamed=lambda name: name.replace("lin", "", 1).replace(".model.1.", "."),
    )
    return module


def _load(
    module: nn.Module,
    path: Path,
    *,
    what: str,
    key: str,
    layout: str,
    renamed: Callable[[str], str],
    ignored: tuple[str, ...] = (),
) -> None:
    remedy = (
        "download it where there is a network, and name it: "
        f"--set autoencoder_training.perceptual.{key}=PATH; or go on without: "
        "--set autoencoder_training.perceptual=null"
    )
    found = read_state_dict(Path(path), what=what, remedy=remedy)
    state = {renamed(name): value for name, value in found.items() if not name.startswith(ignored)}
    problems = compare_keys(module.state_dict(), state).problems
    if problems:
        raise UserError(
            f"{path} does not hold {what}:\n  " + "\n  ".join(problems),
            expected=f"tensors named {layout}",
            remedy=remedy,
        )
    module.load_state_dict(state)


def check_images(channels: int, size: Sequence[int]) -> None:
    """Refuse images that a VGG16 cannot look at.

    Args:
        channels: Of an image.
        size: Of a patch, ``(*spatial)``.

    Raises:
        UserError: They are not tiles in colour, or too small.
    """
    remedy = "--set autoencoder_training.perceptual=null"
    if channels != 3 or len(size) != 2:
        raise UserError(
            f"autoencoder_training.perceptual: {channels} channels on {len(size)} axes",
            expected="one sequence of two axes, in colour: its network was trained on photographs",
            remedy=remedy,
        )
    if min(size) < _SHORTEST:
        raise UserError(
            f"autoencoder_training.perceptual: patches of {list(size)} pixels are too small",
            expected=f"edges of at least {_SHORTEST} pixels",
            remedy=remedy,
        )


class PerceptualLoss:
    """LPIPS as a term of a training. No module: its weights are in no checkpoint or export.

    Args:
        settings: The recipe's ``perceptual`` block.
        channels: Of an image.
        size: Of a patch, ``(*spatial)``.
        device: Where to compute.

    Raises:
        UserError: See :func:`check_images` and :func:`load_lpips`.
    """

    def __init__(
        self, settings: Perceptual, channels: int, size: Sequence[int], device: torch.device
    ) -> None:
        check_images(channels, size)
        self.weight = settings.weight
        self.network = load_lpips(settings.vgg16, settings.heads).to(device)

    def __call__(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """Return the mean distance of two ``(B, 3, H, W)`` in [0, 1], without its weight."""
        distances: Tensor = self.network(reconstruction, images)
        return distances.mean()
