"""Encode, decode and compare held-out cases, one measure each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from voxella.data.volumes import PreparedVolumes
from voxella.errors import UserError
from voxella.metrics.reconstruction import band_errors, mae, mse_bytes, psnr, ssim
from voxella.plugins.contracts import Autoencoder
from voxella.progress import Steps

__all__ = ["CaseMeasure", "held_out", "measure_cases", "reconstruct"]


@dataclass(frozen=True)
class CaseMeasure:
    """One case, reconstructed from the latent's mean and clipped to [0, 1].

    Attributes:
        case_id: The case.
        psnr: In dB; the data range is 1.
        ssim: Structural similarity.
        mae: Mean absolute error.
        mse_255: Mean squared error, of values from 0 to 255.
        band_sums: Sum of absolute errors by band of the original's intensity.
        band_voxels: Voxels of each band.
        mean: The latent's, ``(L, *spatial / factor)``, on the CPU.
        log_sigma: Like ``mean``; None where the latent is no distribution.
    """

    case_id: str
    psnr: float
    ssim: float
    mae: float
    mse_255: float
    band_sums: tuple[float, ...]
    band_voxels: tuple[float, ...]
    mean: Tensor
    log_sigma: Tensor | None


def held_out(volumes: PreparedVolumes, count: int) -> tuple[str, list[str]]:
    """Return a split and at most ``count`` of its ids, evenly spread.

    The split is ``val``, or ``train`` when there is no ``val``. The test split is never looked at.

    Raises:
        UserError: The data set has only test cases.
    """
    # Of cases that lack a sequence there is nothing to compare with in its place.
    whole = {s: [i for i in volumes.ids_of(s) if not volumes.absent(i)] for s in ("val", "train")}
    split = "val" if whole["val"] else "train"
    ids = whole[split]
    if not ids:
        raise UserError(
            f"{volumes.folder} has neither val nor train cases to measure the autoencoder on",
            remedy="give cases the split `train` or `val` in the manifest",
        )
    if len(ids) > count:
        ids = [ids[round(k * (len(ids) - 1) / max(count - 1, 1))] for k in range(count)]
    return split, ids


def measure_cases(
    model: Autoencoder,
    volumes: PreparedVolumes,
    cases: Sequence[str],
    *,
    device: torch.device,
    bands: Sequence[float],
    batch_size: int = 1,
    quiet: bool = False,
) -> Iterator[CaseMeasure]:
    """Yield the measure of each case, in order.

    Args:
        model: On ``device``.
        volumes: The prepared data set.
        cases: Which of them.
        device: Where to compute.
        bands: Where bands of the original's intensity end.
        batch_size: Cases at a time; changes no number beyond rounding.
        quiet: Show no progress.

    Raises:
        UserError: A latent or a reconstruction is not finite.
    """
    with Steps("reconstruct", len(cases), quiet=quiet) as steps:
        for start in range(0, len(cases), batch_size):
            chosen = cases[start : start + batch_size]
            images = torch.stack([volumes.read(case_id) for case_id in chosen])
            reconstruction, mean, log_sigma = _encode_decode(model, images, device)
            sums, voxels = band_errors(reconstruction, images, bands)
            by_case = zip(psnr(reconstruction, images), ssim(reconstruction, images), strict=True)
            error, squared = mae(reconstruction, images), mse_bytes(reconstruction, images)
            for k, (case_id, (p, s)) in enumerate(zip(chosen, by_case, strict=True)):
                sigma = None if log_sigma is None else log_sigma[k]
                _refuse_unless_finite(case_id, "latent", mean[k], sigma)
                _refuse_unless_finite(case_id, "reconstruction", reconstruction[k])
                yield CaseMeasure(
                    case_id,
                    psnr=float(p),
                    ssim=float(s),
                    mae=float(error[k]),
                    mse_255=float(squared[k]),
                    band_sums=tuple(sums[k].tolist()),
                    band_voxels=tuple(voxels[k].tolist()),
                    mean=mean[k],
                    log_sigma=sigma,
                )
                steps.advance()


def reconstruct(model: Autoencoder, images: Tensor, device: torch.device) -> Tensor:
    """Encode and decode ``(B, C, *spatial)`` through the latent's mean; clipped, on the CPU."""
    return _encode_decode(model, images, device)[0]


@torch.no_grad()
def _encode_decode(
    model: Autoencoder, images: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the reconstructed images, the latent's mean and its log sigma, float32 on the CPU."""
    module = cast("nn.Module", model)
    was_training = module.training
    module.eval()
    mean, log_sigma = model.encode(images.to(device))
    reconstruction = model.decode(mean).clamp(0, 1)
    module.train(was_training)
    sigma = None if log_sigma is None else log_sigma.float().cpu()
    return reconstruction.float().cpu(), mean.float().cpu(), sigma


def _refuse_unless_finite(case_id: str, what: str, *values: Tensor | None) -> None:
    if not all(value is None or bool(torch.isfinite(value).all()) for value in values):
        raise UserError(
            f"case {case_id}: its {what} is not finite",
            remedy="look at the volume; are these the autoencoder's own weights?",
        )
