"""How well an autoencoder gives an image back: numbers and a picture, before it is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from voxella.errors import UserError
from voxella.imaging.montage import three_planes, write_png
from voxella.metrics.reconstruction import psnr, ssim
from voxella.plugins.contracts import Autoencoder
from voxella.progress import Steps
from voxella.stages.volumes import PreparedVolumes

__all__ = ["ReconstructionReport", "evaluate_autoencoder", "reconstruct", "write_panel"]

# White in the panel's error row is an error of 1 / _ERROR_GAIN of the intensity range.
_ERROR_GAIN = 4.0


@dataclass(frozen=True)
class ReconstructionReport:
    """PSNR and SSIM of images given back from the latent's mean, clipped to [0, 1].

    Attributes:
        split: Where the cases come from: ``val``, or ``train`` when there is no ``val``. The test
            split is never looked at.
        cases: Their ids.
        psnr: In dB, by case; the data range is 1.
        ssim: By case.
    """

    split: str
    cases: tuple[str, ...]
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the means and the numbers by case as JSON-ready data."""
        rows = zip(self.cases, self.psnr, self.ssim, strict=True)
        return {
            "split": self.split,
            "n": len(self.cases),
            "psnr_db": fmean(self.psnr),
            "psnr_db_lowest": min(self.psnr),
            "ssim": fmean(self.ssim),
            "ssim_lowest": min(self.ssim),
            "by_case": {c: {"psnr_db": p, "ssim": s} for c, p, s in rows},
        }

    def __str__(self) -> str:
        return (
            f"reconstruction of {len(self.cases)} {self.split} cases: "
            f"PSNR {fmean(self.psnr):.2f} dB (lowest {min(self.psnr):.2f}), "
            f"SSIM {fmean(self.ssim):.4f} (lowest {min(self.ssim):.4f})"
        )


def evaluate_autoencoder(
    model: Autoencoder,
    volumes: PreparedVolumes,
    *,
    device: torch.device,
    count: int = 32,
    batch_size: int = 1,
    quiet: bool = False,
) -> ReconstructionReport:
    """Measure reconstruction on the validation split, or on the training split without one.

    Args:
        model: On ``device``.
        volumes: The prepared data set.
        device: Where to compute.
        count: Cases at most, evenly spread over the sorted ids.
        batch_size: Cases at a time; changes no number beyond rounding.
        quiet: Show no progress.

    Raises:
        UserError: The data set has only test cases.
    """
    split = "val" if volumes.ids_of("val") else "train"
    chosen = _spread(volumes.ids_of(split), count)
    if not chosen:
        raise UserError(
            f"{volumes.folder} has neither val nor train cases to measure the autoencoder on",
            remedy="give cases the split `train` or `val` in the manifest",
        )
    values: list[tuple[float, float]] = []
    with Steps("reconstruct", len(chosen), quiet=quiet) as steps:
        for start in range(0, len(chosen), batch_size):
            images = torch.stack([volumes.read(c) for c in chosen[start : start + batch_size]])
            given_back = reconstruct(model, images, device)
            measured = zip(psnr(given_back, images), ssim(given_back, images), strict=True)
            for p, s in measured:
                values.append((float(p), float(s)))
                steps.advance()
    return ReconstructionReport(
        split=split,
        cases=tuple(chosen),
        psnr=tuple(p for p, _ in values),
        ssim=tuple(s for _, s in values),
    )


@torch.no_grad()
def reconstruct(model: Autoencoder, images: Tensor, device: torch.device) -> Tensor:
    """Encode and decode ``(B, C, *spatial)`` through the latent's mean; clipped, on the CPU."""
    module = cast("nn.Module", model)
    was_training = module.training
    module.eval()
    mean, _ = model.encode(images.to(device))
    given_back = model.decode(mean).clamp(0, 1).cpu()
    module.train(was_training)
    return given_back


def write_panel(
    path: Path, original: Tensor, given_back: Tensor, spacing_mm: Sequence[float]
) -> Path:
    """Write original, reconstruction and error (times 4) of one volume, one row each.

    Args:
        path: The PNG.
        original: ``(*spatial)`` in [0, 1].
        given_back: Like ``original``.
        spacing_mm: By axis.
    """
    error = ((original - given_back).abs() * _ERROR_GAIN).clamp(0, 1)
    rows = [three_planes(row.numpy(), spacing_mm) for row in (original, given_back, error)]
    write_png(path, np.concatenate(rows))
    return path


def _spread(ids: Sequence[str], count: int) -> list[str]:
    """Return at most ``count`` ids, evenly spread."""
    if len(ids) <= count:
        return list(ids)
    return [ids[round(k * (len(ids) - 1) / max(count - 1, 1))] for k in range(count)]
