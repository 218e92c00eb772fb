"""torchvision's ResNet-18 and ResNet-34, whose names the plugin `resnet` shares."""

from __future__ import annotations

from pathlib import Path

import torch

from voxella.errors import UserError
from voxella.plugins.released import Released
from voxella.weights import read_state_dict

__all__ = ["TorchvisionSource"]

_WHAT = "torchvision's ResNet"
_FIRST = "conv1.weight"
_MEAN, _COUNTER = "running_mean", "num_batches_tracked"


class TorchvisionSource:
    """Reads ``resnet18-*.pth`` and ``resnet34-*.pth``, trained on the classes of ImageNet.

    Files older than batch norm's counter of steps lack it; it starts at zero.
    """

    parts: frozenset[str] = frozenset({"classifier"})
    licence: str | None = None

    def read(self, path: Path) -> Released:
        """Read a file; see :class:`voxella.plugins.released.Source`.

        Raises:
            UserError: There is no such file, or no ResNet in it.
        """
        state = read_state_dict(path, what=_WHAT, remedy="name the downloaded .pth file")
        if _FIRST not in state or not any(name.startswith("layer1.") for name in state):
            raise UserError(
                f"{path} holds no {_WHAT}: {next(iter(state))} is the first of its {len(state)} "
                "tensors",
                expected=f"{_FIRST}, layer1.* to layer4.*, fc.*",
            )
        means = [name for name in state if name.endswith(f".{_MEAN}")]
        counters = {name.removesuffix(_MEAN) + _COUNTER: torch.tensor(0) for name in means}
        return Released({"classifier": {**counters, **state}})
