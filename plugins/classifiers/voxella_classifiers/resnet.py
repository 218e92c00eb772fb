"""ResNet in two or three dimensions (He et al. 2016, arXiv:1512.03385), MONAI's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.networks.nets import ResNet
from torch import nn

from voxella.errors import UserError
from voxella.plugins.contracts import Classifier
from voxella.weights import compare_keys, read_state_dict

__all__ = ["resnet"]

_HEAD = "fc."
_LAYERS = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}


def resnet(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    depth: int,
    widths: Sequence[int],
    weights: Path | None = None,
) -> Classifier:
    """Return MONAI's ResNet of basic blocks: nothing is downloaded.

    Args:
        spatial_dims: 2 or 3.
        in_channels: Image channels.
        num_classes: Number of classes.
        depth: 10, 18 or 34 layers.
        widths: Channels of the four stages.
        weights: Local file to start from; the last layer may be absent and is new then.

    Raises:
        UserError: For any other number of dimensions, depth or stages; or the file holds another
            network.
    """
    if spatial_dims not in (2, 3):
        raise UserError(f"resnet: {spatial_dims} spatial dimensions", expected="2 or 3")
    if depth not in _LAYERS or len(widths) != 4 or min(widths) < 1:
        raise UserError(
            f"resnet: depth {depth}, widths {list(widths)}",
            expected=f"depth {', '.join(map(str, _LAYERS))}; four widths of 1 or more",
        )
    network = ResNet(
        "basic",
        _LAYERS[depth],
        list(widths),
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        num_classes=num_classes,
        conv1_t_stride=2,  # as published; MONAI's default of 1 would take eight times the memory
        bias_downsample=False,
    )
    # On the device `meta` parameters are counted, not read.
    if weights is not None and not network.conv1.weight.is_meta:
        _start_from(network, Path(weights))
    made: Classifier = network
    return made


def _start_from(network: nn.Module, path: Path) -> None:
    remedy = "name an existing file under classify.classifier.weights"
    state = read_state_dict(path, what="a ResNet", remedy=remedy)
    own = network.state_dict()
    if not any(name.startswith(_HEAD) for name in state):
        own = {name: tensor for name, tensor in own.items() if not name.startswith(_HEAD)}
    report = compare_keys(own, state)
    if not report.fits:
        raise UserError(
            f"{path} does not hold the weights of this network:\n  " + "\n  ".join(report.problems),
            remedy="name the file that voxella convert torchvision FILE --new 'fc.*' writes, which "
            "leaves out the last layer",
        )
    network.load_state_dict(state, strict=False)
