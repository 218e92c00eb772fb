"""Group norms that see the whole volume although the network sees one window at a time.

A group norm divides by the spread over ALL voxels. Window by window it would divide by another
spread in each, and the windows would differ by several per cent where they meet, whatever their
overlap. Here the statistics of the norms are measured over the cores of all windows, one norm after
the other: the k-th sweep through the windows runs as far as the k-th norm, with the norms before it
already exact. That costs as many sweeps as there are norms, most of them short, and is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxella.autoencoder.tiling.windows import Window

__all__ = ["SharedNorms"]


class _MeasuredError(Exception):
    """Ends a forward pass: the rest of it is not needed yet."""


@dataclass
class _Sums:
    """What one norm's statistics are made of, by sample and group: float64 on the device."""

    count: int
    total: Tensor
    squares: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


class SharedNorms:
    """The group norms of a network in evaluation mode, known by the order of their calls.

    Args:
        network: Any module; its ``nn.GroupNorm`` layers, MONAI's own among them, are shared.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for layer in network.modules() if isinstance(layer, nn.GroupNorm)]
        self._known: list[tuple[Tensor, Tensor]] = []
        self._sums: _Sums | None = None
        self._call = 0
        self._window: Window | None = None

    @contextmanager
    def measured(
        self, windows: Iterable[Window], run: Callable[[Window], object]
    ) -> Iterator[Callable[[Window], None]]:
        """Measure every norm over ``windows``, then keep the statistics while the block runs.

        Args:
            windows: All of them.
            run: Sends one window through the network.

        Yields:
            What has to be called before a window is sent through the network inside the block.
        """
        everything = list(windows)
        self._known = []
        try:
            for layer in self._layers:
                # On the instance, where it hides the class's; removed below.
                vars(layer)["forward"] = self._shared(layer)
            while self._sweep(everything, run):
                pass
            yield self._enter
        finally:
            for layer in self._layers:
                vars(layer).pop("forward", None)

    def _sweep(self, windows: list[Window], run: Callable[[Window], object]) -> bool:
        """Measure the first norm that is not known yet; False when there is none left."""
        self._sums = None
        for window in windows:
            self._enter(window)
            try:
                run(window)
            except _MeasuredError:
                continue
            return False  # the pass came through: every norm is known
        if self._sums is None:
            return False
        self._known.append(self._sums.moments())
        return True

    def _enter(self, window: Window) -> None:
        self._window, self._call = window, 0

    def _shared(self, layer: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            number, self._call = self._call, self._call + 1
            if number >= len(self._known):
                self._measure(layer, x)
                raise _MeasuredError
            return _normalised(layer, x, *self._known[number])

        return forward

    def _measure(self, layer: nn.GroupNorm, x: Tensor) -> None:
        assert self._window is not None
        core: list[slice] = [slice(None), slice(None)]
        spans = zip(self._window.seen, self._window.core, x.shape[2:], strict=True)
        for (first, last), (start, stop), here in spans:
            # The core on this layer's grid, which may be coarser than the image's.
            width = last - first
            core.append(slice((start - first) * here // width, (stop - first) * here // width))
        values = x[tuple(core)].reshape(x.shape[0], layer.num_groups, -1).double()
        total, squares = values.sum(dim=2), values.square().sum(dim=2)
        if self._sums is None:
            self._sums = _Sums(values.shape[2], total, squares)
        else:
            self._sums.count += values.shape[2]
            self._sums.total += total
            self._sums.squares += squares


def _normalised(layer: nn.GroupNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Apply a group norm with given statistics, ``(B, groups)``, in place of the input's own."""
    by_group = x.shape[1] // layer.num_groups
    # (B, C); as one factor and one summand a channel it is one pass and one tensor.
    gain = torch.rsqrt(variance + layer.eps).repeat_interleave(by_group, dim=1)
    shift = -mean.repeat_interleave(by_group, dim=1) * gain
    if layer.affine:
        gain = gain * layer.weight
        shift = shift * layer.weight + layer.bias
    by_channel = (*gain.shape, *[1] * (x.dim() - 2))
    out = torch.addcmul(
        shift.float().reshape(by_channel), x.float(), gain.float().reshape(by_channel)
    )
    # MONAI's norm has a switch that makes its output half; torch's keeps the input's type.
    return out.half() if getattr(layer, "norm_float16", False) else out.to(x.dtype)
