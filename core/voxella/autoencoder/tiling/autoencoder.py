"""An autoencoder that works in windows and gives what it would give without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.tiling.norms import SharedNorms
from voxella.autoencoder.tiling.windows import Window, cut
from voxella.plugins.contracts import Autoencoder

__all__ = ["HALO", "TiledAutoencoder", "Windows"]

# Latent voxels that a window sees beyond its core. What lies further away than this reaches a
# voxel through MAISI's autoencoder by a few thousandths of its spread at most.
HALO = 8


@dataclass(frozen=True)
class Windows:
    """What to cut a volume into, in IMAGE voxels by axis; None: the volume goes through whole.

    Attributes:
        encode: For encoding.
        decode: For decoding.
    """

    encode: tuple[int, ...] | None = None
    decode: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what decides values, as JSON-ready data."""
        return {
            "encode": None if self.encode is None else list(self.encode),
            "decode": None if self.decode is None else list(self.decode),
            "halo": HALO,
        }


class TiledAutoencoder(nn.Module):
    """An :class:`Autoencoder` about another; memory is that of one window.

    The windows overlap by ``2 * HALO`` latent voxels, and of each only the middle is kept. Group
    norms use the statistics of the whole volume (:class:`SharedNorms`), so what differs from the
    untiled result is what lies beyond the halo. A layer that looks at the whole volume otherwise,
    such as attention, looks at its window only.

    With several ``passes`` the channels of an image are cut into as many groups, and each goes
    through the network by itself: a group's latent is, to the bit, what the group alone would give.

    Args:
        whole: The autoencoder, in evaluation mode.
        windows: Sizes.
        decode_batch: How many volumes there is memory to decode at a time; for callers to cut
            their batches by, :meth:`decode` takes what it is given.
        passes: How often the network runs over a case: once for each sequence, or once.
    """

    def __init__(
        self, whole: Autoencoder, windows: Windows, decode_batch: int = 1, passes: int = 1
    ) -> None:
        super().__init__()
        self.whole = whole
        self.windows = windows
        self.decode_batch = decode_batch
        self.factor = whole.factor
        self.passes = passes
        self.latent_channels = whole.latent_channels * passes
        module = cast("nn.Module", whole)
        self.training = module.training
        self._norms = SharedNorms(module)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return mean and log sigma, each ``(B, L, *spatial / factor)``, on the images' device.

        Log sigma is None where the autoencoder gives none.
        """
        parts = [self._encode(part) for part in images.chunk(self.passes, dim=1)]
        if len(parts) == 1:
            return parts[0]
        sigmas = [log_sigma for _, log_sigma in parts if log_sigma is not None]
        mean = torch.cat([mean for mean, _ in parts], dim=1)
        return mean, torch.cat(sigmas, dim=1) if sigmas else None

    def decode(self, latents: Tensor) -> Tensor:
        """Return images ``(B, C, *spatial * factor)``, on the latents' device."""
        parts = [self._decode(part) for part in latents.chunk(self.passes, dim=1)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Encode the channels of one pass."""
        size = self.windows.encode
        if size is None:
            return self.whole.encode(images)
        halo, unit = HALO * self.factor, self.factor
        windows = cut(images.shape[2:], _within(size, images.shape[2:]), halo=halo, unit=unit)

        def encode(part: Tensor) -> tuple[Tensor, ...]:
            return tuple(values for values in self.whole.encode(part) if values is not None)

        mean, *log_sigma = self._run(encode, images, windows, 1, self.factor)
        return mean, log_sigma[0] if log_sigma else None

    def _decode(self, latents: Tensor) -> Tensor:
        """Decode the channels of one pass."""
        size = self.windows.decode
        if size is None:
            return self.whole.decode(latents)
        inside = _within([n // self.factor for n in size], latents.shape[2:])
        windows = cut(latents.shape[2:], inside, halo=HALO, unit=1)

        def decode(part: Tensor) -> tuple[Tensor]:
            return (self.whole.decode(part),)

        return self._run(decode, latents, windows, self.factor, 1)[0]

    def _run(
        self,
        work: Callable[[Tensor], tuple[Tensor, ...]],
        given: Tensor,
        windows: Sequence[Window],
        up: int,
        down: int,
    ) -> list[Tensor]:
        """Send every window through ``work`` and put the cores together."""

        def part(window: Window) -> tuple[Tensor, ...]:
            return work(given[_slices(window.seen)])

        joined: list[Tensor] = []
        with self._shared_norms(windows, part) as enter:
            for window in windows:
                enter(window)
                found = part(window)
                if not joined:
                    spatial = [n * up // down for n in given.shape[2:]]
                    joined = [values.new_zeros(*values.shape[:2], *spatial) for values in found]
                inner = window.scaled(up, down)
                for whole, values in zip(joined, found, strict=True):
                    whole[_slices(inner.core)] = values[_slices(_relative(inner))]
        return joined

    @contextmanager
    def _shared_norms(
        self, windows: Sequence[Window], part: Callable[[Window], object]
    ) -> Iterator[Callable[[Window], None]]:
        if self.training:
            raise RuntimeError("windows are for encoding and decoding, not for training")
        # One window is the whole: its norms need no help.
        alone = nullcontext(lambda window: None)
        with alone if len(windows) == 1 else self._norms.measured(windows, part) as enter:
            yield enter


def _within(window: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(w, n) for w, n in zip(window, size, strict=True))


def _slices(spans: Sequence[tuple[int, int]]) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(start, stop) for start, stop in spans))


def _relative(window: Window) -> list[tuple[int, int]]:
    """Return the core as seen from the window's own first voxel."""
    spans = zip(window.seen, window.core, strict=True)
    return [(start - first, stop - first) for (first, _), (start, stop) in spans]
