"""How well an autoencoder gives images back: the numbers of several cases as one, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from voxella.autoencoder.measure import CaseMeasure, held_out, measure_cases, reconstruct
from voxella.autoencoder.picture import Column, reconstruction_picture
from voxella.data.volumes import PreparedVolumes
from voxella.imaging.montage import write_png
from voxella.plugins.contracts import Autoencoder
from voxella.recipe.model import AutoencoderCheck

__all__ = [
    "ReconstructionReport",
    "evaluate_autoencoder",
    "write_panel",
]


@dataclass(frozen=True)
class ReconstructionReport:
    """Measures of held-out cases.

    Attributes:
        split: Where the cases come from: ``val``, or ``train`` when there is no ``val``. The test
            split is never looked at.
        bands: Where bands of the original's intensity end.
        measures: By case.
    """

    split: str
    bands: tuple[float, ...]
    measures: tuple[CaseMeasure, ...]

    @property
    def cases(self) -> tuple[str, ...]:
        """Return the cases' ids."""
        return tuple(measure.case_id for measure in self.measures)

    @property
    def psnr(self) -> float:
        """Return the mean PSNR in dB; infinite where a case is reconstructed exactly."""
        return fmean(measure.psnr for measure in self.measures)

    @property
    def ssim(self) -> float:
        """Return the mean SSIM."""
        return fmean(measure.ssim for measure in self.measures)

    @property
    def mae(self) -> float:
        """Return the mean absolute error."""
        return fmean(measure.mae for measure in self.measures)

    @property
    def mse_255(self) -> float:
        """Return the mean squared error, of values from 0 to 255."""
        return fmean(measure.mse_255 for measure in self.measures)

    @property
    def band_mae(self) -> tuple[float | None, ...]:
        """Return the mean absolute error of all voxels of each band; None where there are none."""
        sums = [math.fsum(column) for column in zip(*self._of("band_sums"), strict=True)]
        return tuple(s / n if n else None for s, n in zip(sums, self._voxels(), strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return the means and the numbers by case as JSON-ready data."""
        return {
            "split": self.split,
            "n": len(self.measures),
            "psnr_db": _finite(self.psnr),
            "psnr_db_lowest": _finite(min(m.psnr for m in self.measures)),
            "ssim": self.ssim,
            "ssim_lowest": min(m.ssim for m in self.measures),
            "mae": self.mae,
            "mae_highest": max(m.mae for m in self.measures),
            "mse_255": self.mse_255,
            "mse_255_highest": max(m.mse_255 for m in self.measures),
            "bands": self._bands(),
            "by_case": {
                m.case_id: {
                    "psnr_db": _finite(m.psnr),
                    "ssim": m.ssim,
                    "mae": m.mae,
                    "mse_255": m.mse_255,
                }
                for m in self.measures
            },
        }

    def __str__(self) -> str:
        return (
            f"reconstruction of {len(self.measures)} {self.split} cases: "
            f"PSNR {self.psnr:.2f} dB (lowest {min(m.psnr for m in self.measures):.2f}), "
            f"SSIM {self.ssim:.4f} (lowest {min(m.ssim for m in self.measures):.4f}), "
            f"MAE {self.mae:.4f}"
        )

    def _bands(self) -> list[dict[str, Any]]:
        voxels = self._voxels()
        limits = pairwise([0.0, *self.bands, 1.0])
        rows = zip(limits, voxels, self.band_mae, strict=True)
        return [
            {"from": low, "to": high, "share": n / math.fsum(voxels), "mae": error}
            for (low, high), n, error in rows
        ]

    def _voxels(self) -> list[float]:
        return [math.fsum(column) for column in zip(*self._of("band_voxels"), strict=True)]

    def _of(self, name: str) -> list[tuple[float, ...]]:
        return [getattr(measure, name) for measure in self.measures]


def evaluate_autoencoder(
    model: Autoencoder,
    volumes: PreparedVolumes,
    *,
    device: torch.device,
    settings: AutoencoderCheck | None = None,
    count: int | None = None,
    batch_size: int = 1,
    quiet: bool = False,
) -> ReconstructionReport:
    """Measure reconstruction on the validation split, or on the training split without one.

    Args:
        model: On ``device``.
        volumes: The prepared data set.
        device: Where to compute.
        settings: The recipe's ``autoencoder_check`` block; None: its defaults.
        count: Cases at most, evenly spread over the sorted ids; None: as many as in ``settings``.
        batch_size: Cases at a time; changes no number beyond rounding.
        quiet: Show no progress.

    Raises:
        UserError: The data set has only test cases, or a reconstruction is not finite.
    """
    settings = settings or AutoencoderCheck()
    split, cases = held_out(volumes, count or settings.cases)
    measures = measure_cases(
        model,
        volumes,
        cases,
        device=device,
        bands=settings.bands,
        batch_size=batch_size,
        quiet=quiet,
    )
    return ReconstructionReport(split, tuple(settings.bands), tuple(measures))


def write_panel(
    path: Path,
    report: ReconstructionReport,
    model: Autoencoder,
    volumes: PreparedVolumes,
    device: torch.device,
    channels: int = 1,
) -> Path:
    """Show the worst, the median and the best case by PSNR, a column each.

    Rows are the original, the reconstruction and the absolute error (times 4), in three planes.
    The first sequence stands for all: the picture is for looking, the numbers cover every channel.

    Args:
        path: The PNG.
        report: The numbers.
        model: On ``device``.
        volumes: The prepared data set.
        device: Where to compute.
        channels: Of the first sequence: 1, or 3 for colours.
    """
    columns = []
    for measure in _worst_median_best(report.measures):
        image = volumes.read(measure.case_id)
        columns.append(
            Column(
                measure.case_id,
                f"reconstruction, {measure.psnr:.1f} dB",
                image[:channels],
                reconstruct(model, image.unsqueeze(0), device)[0, :channels],
                volumes.spacing_mm(measure.case_id),
            )
        )
    return write_png(path, reconstruction_picture(columns))


def _worst_median_best(measures: Sequence[CaseMeasure]) -> list[CaseMeasure]:
    ranked = sorted(measures, key=lambda measure: (measure.psnr, measure.case_id))
    last = len(ranked) - 1
    return [ranked[k] for k in sorted({0, last // 2, last})]


def _finite(value: float) -> float | None:
    """Return None for what JSON cannot say: the PSNR of a case that is reconstructed exactly."""
    return value if math.isfinite(value) else None
