"""ResNet in two or three dimensions (He et al. 2016, arXiv:1512.03385), MONAI's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from monai.networks.nets import ResNet
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.plugins.contracts import Classifier
from voxella.weights import compare_keys, read_state_dict, with_counters

__all__ = ["resnet"]

# Of ImageNet's pictures in [0, 1], which torchvision's weights were trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LAST = "fc."
_LAYERS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}


def resnet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    depth: int,
    widths: Sequence[int],
    weights: Path | None = None,
) -> Classifier:
    """Return MONAI's ResNet of basic blocks; nothing is downloaded.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        num_classes: Number of classes.
        depth: 10, 18 or 34 layers.
        widths: Channels of the four stages.
        weights: Of torchvision's ResNet, whose names and strides are the same, or of another of
            this class; their last layer is left out. None: random ones.

    Raises:
        UserError: For any other number of dimensions, depth or stages; the file of weights is
            missing or holds another network.
    """
    if spatial_dims not in (2, 3):
        raise UserError(f"resnet: {spatial_dims} spatial dimensions", expected="2 or 3")
    if depth not in _LAYERS or len(widths) != 4 or min(widths) < 1:
        raise UserError(
            f"resnet: depth {depth}, widths {list(widths)}",
            expected=f"depth {', '.join(map(str, _LAYERS))}; four widths of 1 or more",
        )
    network: nn.Module = ResNet(
        "basic",
        _LAYERS[depth],
        list(widths),
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        num_classes=num_classes,
        conv1_t_stride=2,  # as published; MONAI's default of 1 would take eight times the memory
        bias_downsample=False,
    )
    if weights is not None:
        _load(network, Path(weights))
        if (spatial_dims, in_channels) == (2, 3):  # torchvision's are of such pictures
            network.register_forward_pre_hook(_as_imagenet)
    return cast(Classifier, network)


def _as_imagenet(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
    """Bring pictures ``(B, 3, H, W)`` in [0, 1] to the mean and deviation of ImageNet's."""
    mean, deviation = (given[0].new_tensor(one).view(3, 1, 1) for one in (_MEAN, _DEVIATION))
    return ((given[0] - mean) / deviation,)


def _load(network: nn.Module, path: Path) -> None:
    """Load everything but the last layer, which tells other classes apart."""
    found = read_state_dict(path, what="torchvision's ResNet", remedy="name it under `weights`")
    own = network.state_dict()
    last = {name: tensor for name, tensor in own.items() if name.startswith(_LAST)}
    body = {name: tensor for name, tensor in found.items() if not name.startswith(_LAST)}
    state = with_counters(body) | last
    problems = compare_keys(own, state).problems
    if problems:
        raise UserError(
            f"{path} does not hold these weights of torchvision's ResNet:\n  "
            + "\n  ".join(problems),
            remedy="name the file of that depth under `weights`, or null for random ones",
        )
    if not any(tensor.is_meta for tensor in own.values()):
        network.load_state_dict(state)
