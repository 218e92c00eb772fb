"""`voxella check-autoencoder`: is the autoencoder good enough to train on its latents?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import torch
from typing_extensions import TypedDict

from voxella.autoencoder.latent_report import LatentReport, report_latents
from voxella.autoencoder.load import (
    AutoencoderPlan,
    LoadedAutoencoder,
    choose_device,
    load_autoencoder,
)
from voxella.autoencoder.report import ReconstructionReport, evaluate_autoencoder, write_panel
from voxella.autoencoder.tiling.choice import tiled
from voxella.data.phantoms import are_phantoms
from voxella.data.volumes import PreparedVolumes
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.hashing import sha256_json
from voxella.progress import print_line
from voxella.recipe.model import AutoencoderCheck, PaperRow, Recipe
from voxella.workspace.state import StateFile, sealed

__all__ = [
    "CHECK",
    "CHECKS",
    "PICTURE",
    "Criterion",
    "check_autoencoder",
    "judge",
    "require_trusted",
]

CHECK = "check.json"
PICTURE = "check.png"
# Raised where a check measures more than before, so that an older one is made again.
_FORMAT = 2


class _Found(TypedDict):
    key: NotRequired[str]
    fingerprint: NotRequired[str]
    trusted: NotRequired[bool | None]
    criteria: list[dict[str, Any]]
    reconstruction: dict[str, Any]
    latents: dict[str, Any]
    paper: NotRequired[dict[str, Any]]


CHECKS: StateFile[dict[str, Any]] = StateFile(
    _Found, "rm {path}, then voxella check-autoencoder RECIPE with the same --out"
)


@dataclass(frozen=True)
class Criterion:
    """One number and what the recipe asks of it.

    Attributes:
        key: The recipe's, below ``autoencoder_check``.
        name: For people, with its unit.
        measured: The number.
        limit: What is asked.
        at_least: Whether the number may not be smaller than the limit, or not larger.
    """

    key: str
    name: str
    measured: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Return whether the number is as asked."""
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        return f"{self.name} {self.measured:.4g}, asked for {bound} {self.limit:g}"


def judge(
    settings: AutoencoderCheck, report: ReconstructionReport, latents: LatentReport
) -> list[Criterion]:
    """Return every criterion that the recipe sets; none where all of them are null."""
    bands = [error for error in report.band_mae if error is not None]
    found = [
        ("psnr_db", "PSNR in dB", report.psnr, True),
        ("ssim", "SSIM", report.ssim, True),
        ("mae", "MAE", report.mae, False),
        ("band_mae", "MAE of the worst band", max(bands), False),
        ("dead_channels", "dead latent channels", float(len(latents.dead)), False),
    ]
    return [
        Criterion(key, name, measured, float(limit), at_least)
        for key, name, measured, at_least in found
        if (limit := getattr(settings, key)) is not None
    ]


def check_autoencoder(
    recipe: Recipe, prepared: Path, folder: Path, *, device: str = "auto"
) -> dict[str, Any] | None:
    """Measure the autoencoder that the recipe encodes with, judge it, and say so.

    Args:
        recipe: Its ``autoencoder_check`` block says on how many cases, and what is asked.
        prepared: The prepared data set.
        folder: What ``voxella train-autoencoder`` wrote, if the recipe trains; receives
            ``check.json`` and ``check.png``.
        device: ``auto``, ``cpu``, ``cuda``...

    Returns:
        What ``check.json`` holds; ``trusted`` is None where the recipe asks for nothing. None, and
        no ``check.json``, for a data set of test cases alone, which are never looked at.

    Raises:
        UserError: The autoencoder has no weights, a reconstruction is not finite; or it is not
            trusted and the recipe says to stop then.
    """
    volumes = PreparedVolumes(
        prepared,
        sequences=recipe.data.sequences,
        spatial_dims=len(recipe.latent.size),
        optional=recipe.data.optional,
        keep_bytes=0,
    )
    if not (volumes.ids_of("val") or volumes.ids_of("train")):
        print_line("check-autoencoder: there is neither a val nor a train case to measure on")
        (folder / CHECK).unlink(missing_ok=True)
        return None
    place = choose_device(device)
    plan = AutoencoderPlan.of(recipe)
    coder = load_autoencoder(plan, folder, place)
    settings = recipe.autoencoder_check
    asked = settings.model_dump(mode="json", exclude={"on_failure"})
    paper = {} if are_phantoms(volumes.manifest) else _published(recipe.paper)
    key = sha256_json([coder.fingerprint, volumes.fingerprint, asked, _FORMAT, paper])
    found = _read(folder)
    if found is None or found.get("key") != key or not (folder / PICTURE).is_file():
        found = {"key": key, **_examine(settings, plan, coder, volumes, folder / PICTURE, place)}
        found |= {"paper": paper} if paper else {}
        write_json_atomic(folder / CHECK, sealed(found))
    _print_summary(found, folder)
    if settings.on_failure == "stop":
        require_trusted(folder)
    return found


def require_trusted(folder: Path) -> None:
    """Refuse an autoencoder that its check did not trust.

    Raises:
        UserError: Naming every criterion that was not met.
    """
    found = _read(folder)
    if found is not None and found.get("trusted") is False:
        raise UserError(
            f"the autoencoder is not trusted: {'; '.join(_failed(found))}",
            remedy=f"look at {folder / PICTURE}; train it longer (autoencoder_training.steps), "
            "fine-tune it, or ask for less (autoencoder_check)",
        )


def _examine(
    settings: AutoencoderCheck,
    plan: AutoencoderPlan,
    coder: LoadedAutoencoder,
    volumes: PreparedVolumes,
    picture: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Measure, draw and judge."""
    model = tiled(coder, plan, device, alone=True)
    report = evaluate_autoencoder(model, volumes, device=device, settings=settings)
    latents = report_latents(report.measures)
    print_line(str(report))
    write_panel(picture, report, model, volumes, device, plan.shown)
    return {
        "fingerprint": coder.fingerprint,
        **_verdict(judge(settings, report, latents)),
        "reconstruction": report.as_json(),
        "latents": latents.as_json(),
    }


def _published(row: PaperRow | None) -> dict[str, Any]:
    """Return what the paper has of reconstructions, by the keys of ours; phantoms have none."""
    if row is None:
        return {}
    numbers = {"ssim": row.reconstruction_ssim, "mse_255": row.reconstruction_mse}
    known = {key: number for key, number in numbers.items() if number is not None}
    return {"model": row.model, **known} if known else {}


def _verdict(criteria: list[Criterion]) -> dict[str, Any]:
    rows = [
        {
            "key": c.key,
            "measured": c.measured if math.isfinite(c.measured) else None,
            "limit": c.limit,
            "at_least": c.at_least,
            "met": c.met,
            "told": str(c),
        }
        for c in criteria
    ]
    return {"trusted": all(c.met for c in criteria) if criteria else None, "criteria": rows}


def _print_summary(found: dict[str, Any], folder: Path) -> None:
    if found.get("trusted") is None:
        print_line(f"check-autoencoder: the recipe asks for nothing; numbers in {folder / CHECK}")
    elif found.get("trusted"):
        told = "; ".join(row["told"] for row in found["criteria"])
        print_line(f"check-autoencoder: trusted. {told}")
    else:
        print_line(f"WARNING: the autoencoder is NOT TRUSTED: {'; '.join(_failed(found))}")
        print_line("WARNING: no model trained on its latents can be better than this: see")
        print_line(f"WARNING:   {folder / PICTURE}")


def _failed(found: dict[str, Any]) -> list[str]:
    return [row["told"] for row in found["criteria"] if not row["met"]]


def _read(folder: Path) -> dict[str, Any] | None:
    """Return the last check, or None where there is none that can be read."""
    return CHECKS.read_or_remake(folder / CHECK)
