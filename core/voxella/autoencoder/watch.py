"""What is looked at while an autoencoder trains: held-out cases, measured and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from voxella.autoencoder.measure import held_out, reconstruct
from voxella.autoencoder.picture import Column, reconstruction_picture
from voxella.data.volumes import PreparedVolumes
from voxella.files import atomic_path
from voxella.imaging.montage import write_png
from voxella.metrics.reconstruction import mae, psnr
from voxella.observers.dispatch import ObserverSet
from voxella.plugins.contracts import Autoencoder
from voxella.ranks import Ranks

__all__ = ["HeldOut"]

_SHOWN = 2


class HeldOut:
    """Reconstructions of held-out cases, always the same ones.

    Whole volumes, or their middle where a training on patches has no memory for the whole.

    Args:
        volumes: The prepared data set; not the one that another thread reads.
        count: Cases at most.
        size: Voxels along each axis.
        ranks: This process.
        observers: Shown the pictures.
        folder: Receives the pictures.
        channels: Of the first sequence, which is shown: 1, or 3 for colours.
    """

    def __init__(
        self,
        volumes: PreparedVolumes,
        *,
        count: int,
        size: tuple[int, ...],
        ranks: Ranks,
        observers: ObserverSet,
        folder: Path,
        channels: int = 1,
    ) -> None:
        self.volumes, self.size, self.ranks, self.channels = volumes, size, ranks, channels
        self.observers, self.folder = observers, folder
        self.cases = held_out(volumes, count)[1]

    @torch.no_grad()
    def measure(self, engine: Any, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Return mean absolute error and PSNR over the cases; collective.

        Every process takes as many cases, for under ZeRO 3 each is a meeting; one that has run out
        of them repeats the last and does not count it.
        """
        model = cast("Autoencoder", engine.module.autoencoder)
        mine = [self.cases[index] for index in self.ranks.share(len(self.cases))]
        sums = torch.zeros(3, dtype=torch.float64)
        for index in range(-(-len(self.cases) // self.ranks.world)):
            case_id = mine[index] if index < len(mine) else self.cases[-1]
            image = self._image(case_id)[None]
            reconstruction = reconstruct(model, image, self.ranks.device)
            if index < len(mine):
                error, ratio = mae(reconstruction, image), psnr(reconstruction, image)
                sums += torch.tensor([float(error[0]), float(ratio[0]), 1.0], dtype=torch.float64)
        if self.ranks.world > 1:
            sums = sums.to(self.ranks.device)
            torch.distributed.all_reduce(sums)
        error_sum, ratio_sum, count = sums.tolist()
        return {"validation/l1": error_sum / count, "validation/psnr_db": ratio_sum / count}

    def panel(self, step: int, task: Any) -> None:  # noqa: ANN401 - the module inside the engine
        """Show original, reconstruction and error of two cases; every process computes them."""
        model = cast("Autoencoder", task.autoencoder)
        for number, case_id in enumerate(self.cases[:_SHOWN]):
            image = self._image(case_id)
            reconstruction = reconstruct(model, image[None], self.ranks.device)[0]
            if not self.ranks.is_main:
                continue
            spacing = self.volumes.spacing_mm(case_id)
            pair = image[: self.channels], reconstruction[: self.channels]
            column = Column(case_id, f"reconstruction at {step}", *pair, spacing)
            picture = reconstruction_picture([column])
            self.observers.images(step, f"reconstruction/{number}", picture)
            name = f"step-{step:08d}-{number}.png"
            with atomic_path(self.folder / name) as temporary:
                write_png(temporary, picture)

    def _image(self, case_id: str) -> Tensor:
        volume = self.volumes.read(case_id)
        for axis, width in enumerate(self.size, start=1):
            volume = volume.narrow(axis, (volume.shape[axis] - width) // 2, width)
        return volume
