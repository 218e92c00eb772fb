"""How windows lie over a grid: overlapping, all of one size, each responsible for its core."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Window", "cut", "window_sizes"]


@dataclass(frozen=True)
class Window:
    """One window, by axis: ``(start, stop)`` of what it sees and of its core, in voxels.

    The cores of all windows cover the grid without overlap. What a window computes near its own
    border lacks neighbours; only its core is kept.
    """

    seen: tuple[tuple[int, int], ...]
    core: tuple[tuple[int, int], ...]

    def scaled(self, up: int, down: int) -> Window:
        """Return the window on a grid ``up / down`` as fine."""

        def scale(spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
            return tuple((a * up // down, b * up // down) for a, b in spans)

        return Window(scale(self.seen), scale(self.core))


def cut(size: Sequence[int], window: Sequence[int], *, halo: int, unit: int) -> list[Window]:
    """Return the fewest windows whose cores cover a grid.

    Args:
        size: Of the grid, voxels by axis; multiples of ``unit``.
        window: Voxels by axis; multiples of ``unit``. As large as the grid: that axis is whole.
        halo: What a window sees beyond its core at least, where the grid goes on.
        unit: Every start and stop is a multiple of it.
    """
    axes = [_spans(n, w, halo, unit) for n, w in zip(size, window, strict=True)]
    return [
        Window(tuple(seen for seen, _ in spans), tuple(core for _, core in spans))
        for spans in itertools.product(*axes)
    ]


def window_sizes(size: Sequence[int], *, halo: int, unit: int) -> Iterator[tuple[int, ...]]:
    """Yield window sizes from the whole grid downwards, each time cutting the widest core.

    A core is never narrower than the halo beside it: a window computes 3 voxels for each it keeps
    at most, along each axis.
    """
    options = [list(_widths(n, halo, unit)) for n in size]
    place = [0] * len(size)
    while True:
        yield tuple(widths[k] for widths, k in zip(options, place, strict=True))
        axes = [axis for axis, k in enumerate(place) if k + 1 < len(options[axis])]
        if not axes:
            return
        widest = max(axes, key=lambda axis: options[axis][place[axis]])
        place[widest] += 1


def _widths(size: int, halo: int, unit: int) -> Iterator[int]:
    """Yield the widths that 1, 2, 3... windows need along one axis, as long as they shrink."""
    last = size
    yield size
    for count in range(2, size // halo + 1):
        width = math.ceil((math.ceil(size / count) + 2 * halo) / unit) * unit
        if width < last:
            last = width
            yield width


def _spans(
    size: int, window: int, halo: int, unit: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return what windows along one axis see, and their cores."""
    if window >= size:
        return [((0, size), (0, size))]
    count = 1 + math.ceil((size - window) / (window - 2 * halo))
    starts = [round(k * (size - window) / (count - 1) / unit) * unit for k in range(count)]
    # Cores meet in the middle of what two windows share.
    shared = itertools.pairwise(starts)
    meets = [(later + earlier + window) // 2 // unit * unit for earlier, later in shared]
    edges = itertools.pairwise([0, *meets, size])
    return [((s, s + window), core) for s, core in zip(starts, edges, strict=True)]
