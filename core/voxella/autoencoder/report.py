"""How well an autoencoder gives images back: the numbers of several cases as one, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voxella.autoencoder.measure import CaseMeasure, held_out, measure_cases, reconstruct
from voxella.data.volumes import PreparedVolumes
from voxella.imaging.montage import montage, write_png
from voxella.plugins.contracts import Autoencoder
from voxella.recipe.model import AutoencoderCheck

__all__ = [
    "Column",
    "ReconstructionReport",
    "evaluate_autoencoder",
    "reconstruction_picture",
    "write_panel",
]

# White in the panel's error row is an error of 1 / _ERROR_GAIN of the intensity range.
_ERROR_GAIN = 4.0
_PANEL_VOXELS = 128  # a volume with shorter edges is enlarged, or there is little to see


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
        """Return the mean PSNR in dB; infinite where a case is given back exactly."""
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
            "bands": self._bands(),
            "by_case": {
                m.case_id: {"psnr_db": _finite(m.psnr), "ssim": m.ssim, "mae": m.mae}
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
) -> Path:
    """Show the worst, the median and the best case by PSNR, a column each.

    Rows are the original, the reconstruction and the absolute error (times 4), in three planes.
    Channel 0 stands for all: the picture is for looking, the numbers cover every channel.
    """
    columns = []
    for measure in _worst_median_best(report.measures):
        image = volumes.read(measure.case_id)
        columns.append(
            Column(
                measure.case_id,
                f"given back, {measure.psnr:.1f} dB",
                image,
                reconstruct(model, image.unsqueeze(0), device)[0],
                volumes.spacing_mm(measure.case_id),
            )
        )
    return write_png(path, reconstruction_picture(columns))


@dataclass(frozen=True)
class Column:
    """One case of a picture.

    Attributes:
        case_id: The case.
        caption: Of its reconstruction.
        image: ``(C, *spatial)``.
        given_back: Like ``image``.
        spacing_mm: Of a voxel, along each axis.
    """

    case_id: str
    caption: str
    image: Tensor
    given_back: Tensor
    spacing_mm: Sequence[float]

    def rows(self) -> list[tuple[Tensor, list[float]]]:
        """Return original, reconstruction and error, each with its spacing."""
        image, given_back = self.image[0], self.given_back[0]
        error = ((image - given_back).abs() * _ERROR_GAIN).clamp(0, 1)
        zoom = max(1, round(_PANEL_VOXELS / max(error.shape)))
        spacing = [mm / zoom for mm in self.spacing_mm[: error.ndim]]
        return [(_enlarged(row, zoom), spacing) for row in (image, given_back, error)]


def reconstruction_picture(columns: Sequence[Column]) -> NDArray[np.uint8]:
    """Return original, reconstruction and error of cases, a column each, uint8 ``(H, W)``."""
    captions = [
        *(column.case_id for column in columns),
        *(column.caption for column in columns),
        *(f"error x {_ERROR_GAIN:g}" for _ in columns),
    ]
    rows = [column.rows() for column in columns]
    cells = [cell for row in zip(*rows, strict=True) for cell in row]
    return montage(
        [volume.numpy() for volume, _ in cells],
        [spacing for _, spacing in cells],
        labels=captions,
        columns=len(columns),
    )


def _worst_median_best(measures: Sequence[CaseMeasure]) -> list[CaseMeasure]:
    ranked = sorted(measures, key=lambda measure: (measure.psnr, measure.case_id))
    last = len(ranked) - 1
    return [ranked[k] for k in sorted({0, last // 2, last})]


def _enlarged(volume: torch.Tensor, zoom: int) -> torch.Tensor:
    """Repeat every voxel ``zoom`` times along each axis."""
    for axis in range(volume.ndim):
        volume = volume.repeat_interleave(zoom, dim=axis)
    return volume


def _finite(value: float) -> float | None:
    """Return None for what JSON cannot say: the PSNR of a case that is given back exactly."""
    return value if math.isfinite(value) else None
