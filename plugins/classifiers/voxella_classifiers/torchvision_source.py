"""torchvision's ResNet-18 and ResNet-34, whose names the plugin `resnet` shares."""

from __future__ import annotations

from pathlib import Path

from voxella.plugins.released import Released
from voxella.weights import not_it, read_state_dict, with_counters

__all__ = ["TorchvisionSource"]

_WHAT = "torchvision's ResNet"
_FIRST = "conv1.weight"


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
            expected = f"{_FIRST}, layer1.* to layer4.*, fc.*"
            raise not_it(path, state, f"no {_WHAT}", expected=expected)
        return Released({"classifier": with_counters(state)})
