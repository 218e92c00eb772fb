"""Autoencoders that are fitted at once and not by gradients, such as principal components."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from voxella.autoencoder.export import FACTS, export
from voxella.autoencoder.load import WEIGHTS, AutoencoderPlan, build_autoencoder, fingerprint
from voxella.data.volumes import PreparedVolumes
from voxella.engine.runtime import barrier, broadcast_object, start_distributed
from voxella.files import make_folder
from voxella.progress import print_line
from voxella.ranks import Ranks
from voxella.recipe.autoencoder import AutoencoderCheck
from voxella.workspace.record import StageRecord

__all__ = ["fit_autoencoder"]

_BATCH = 16


def fit_autoencoder(
    plan: AutoencoderPlan, check: AutoencoderCheck, prepared: Path, out: Path
) -> Path | None:
    """Fit an autoencoder on the training cases, where it has a method ``fit``.

    What it leaves is what a training leaves: weights, facts, a picture.

    Args:
        plan: What it is built from.
        check: On how many cases it is measured.
        prepared: The prepared data set.
        out: Receives the files.

    Returns:
        ``out``, or None where this autoencoder is trained by gradients.
    """
    model = build_autoencoder(plan)
    fit = getattr(model, "fit", None)
    if fit is None:
        return None
    out, ranks = Path(out).absolute(), Ranks.from_environment()
    start_distributed(ranks)
    volumes = PreparedVolumes(
        prepared, sequences=plan.sequences, spatial_dims=len(plan.latent.size)
    )
    module = cast("nn.Module", model)
    inputs = {
        "prepared": volumes.fingerprint,
        "initial_weights": fingerprint(plan.component, module),
    }
    record = StageRecord(out, "train-autoencoder", inputs)
    if broadcast_object(record.is_current() and (out / WEIGHTS).is_file()):
        print_line(f"train-autoencoder: up to date ({out})", quiet=not ranks.is_main)
        return out
    if ranks.is_main:
        make_folder(out)
        record.invalidate()
        fit(_batches(volumes))
        facts = export(plan, check, module.state_dict(), volumes, out, ranks.device)
        record.complete([WEIGHTS, FACTS], **facts)
    barrier()
    return out


def _batches(volumes: PreparedVolumes) -> Iterator[Tensor]:
    """Yield the training cases' images ``(B, C, *spatial)``, in their order."""
    ids = volumes.ids_of("train")
    for start in range(0, len(ids), _BATCH):
        yield torch.stack([volumes.read(i) for i in ids[start : start + _BATCH]])
