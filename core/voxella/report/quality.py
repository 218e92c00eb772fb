"""Section "Autoencoder": its reconstructions, against what the recipe asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from voxella.autoencoder.check import CHECK, CHECKS, PICTURE
from voxella.report.numbers import shown
from voxella.report.run_folder import RunFolder
from voxella.report.section import Absent, Section
from voxella.report.sprites import data_uri

__all__ = ["Quality", "quality_section"]

_WIDEST = 1400


@dataclass(frozen=True)
class Quality:
    """The section's data.

    Attributes:
        verdict: ``trusted``, ``not trusted``, or "" where the recipe asks for nothing.
        cases: Whose reconstruction was measured, in words.
        rows: Name, mean, worst case, what is asked, whether that is met.
        picture: The worst, the median and the best case.
    """

    verdict: str
    cases: str
    rows: list[tuple[str, str, str, str, str]]
    picture: str | None


def quality_section(run: RunFolder) -> Section:
    """Return the section."""
    head = ("autoencoder", "Autoencoder", "quality.html")
    found = CHECKS.read(run.folders.autoencoder / CHECK)
    if found is None:
        absent = Absent("The autoencoder was not checked.", run.command("check-autoencoder"))
        return Section(*head, absent=absent)
    measured = found["reconstruction"]
    asked = {row["key"]: row for row in found["criteria"]}
    bands = [band["mae"] for band in measured["bands"] if band["mae"] is not None]
    dead = len(found["latents"]["dead_channels"])
    numbers = [
        ("psnr_db", "PSNR, dB", measured["psnr_db"], measured["psnr_db_lowest"]),
        ("ssim", "SSIM", measured["ssim"], measured["ssim_lowest"]),
        ("mae", "Mean absolute error", measured["mae"], measured["mae_highest"]),
        (
            "mse_255",
            "Mean squared error, of 0 to 255",
            measured.get("mse_255"),
            measured.get("mse_255_highest"),
        ),
        ("band_mae", "Mean absolute error, worst band", max(bands, default=None), None),
        ("dead_channels", "Dead latent channels", dead, None),
    ]
    rows = [
        (name, _written(mean), _written(worst), *_judged(asked.get(key)))
        for key, name, mean, worst in numbers
    ]
    verdict = {True: "trusted", False: "not trusted"}.get(found["trusted"], "")
    cases = f"{measured['n']} {measured['split']} cases"
    return Section(*head, data=Quality(verdict, cases, rows, _picture(run.folders.autoencoder)))


def _written(value: float | None) -> str:
    return "" if value is None else shown(value)


def _judged(asked: dict[str, Any] | None) -> tuple[str, str]:
    """Return what is asked of a number, and whether it is so."""
    if asked is None:
        return "", ""
    bound = "at least" if asked["at_least"] else "at most"
    return f"{bound} {asked['limit']:g}", "met" if asked["met"] else "not met"


def _picture(folder: Path) -> str | None:
    path = folder / PICTURE
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return data_uri(np.asarray(image.convert("L" if image.mode == "L" else "RGB")), _WIDEST)
