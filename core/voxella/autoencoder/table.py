"""The last check of an autoencoder as tables on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from voxella.autoencoder.check import CHECK, CHECKS
from voxella.errors import UserError
from voxella.terminal import make_console

__all__ = ["show_check"]


def show_check(folder: Path) -> None:
    """Print ``check.json`` of a folder: numbers with what is asked, bands, latent channels.

    Raises:
        UserError: There is none.
    """
    found = CHECKS.read(folder / CHECK)
    if found is None:
        raise UserError(
            f"the autoencoder was not checked: {folder / CHECK} is absent",
            remedy="give cases the split `val` in the manifest, then voxella check-autoencoder",
        )
    console = make_console()
    for table in (_numbers(found), _bands(found), _channels(found)):
        console.print(table)


def _numbers(found: dict[str, Any]) -> Table:
    measured = found["reconstruction"]
    table = Table(
        title=f"reconstruction of {measured['n']} {measured['split']} cases", title_justify="left"
    )
    for heading in ("", "mean", "worst case", "asked for", "verdict"):
        table.add_column(heading)
    paper = found.get("paper") or {}
    if paper:
        table.add_column(f"paper:\n{paper['model']}")
    rows = [
        ("psnr_db", "PSNR, dB", "psnr_db_lowest", ".2f"),
        ("ssim", "SSIM", "ssim_lowest", ".4f"),
        ("mae", "MAE", "mae_highest", ".4f"),
        ("mse_255", "MSE of 0 to 255", "mse_255_highest", ".3f"),
    ]
    for key, name, worst, form in rows:
        values = (_number(measured[key], form), _number(measured[worst], form))
        beside = [_number(paper.get(key), "g")] if paper else []
        table.add_row(name, *values, *_asked(found, key), *beside)
    bands = [band["mae"] for band in measured["bands"] if band["mae"] is not None]
    table.add_row("MAE, worst band", f"{max(bands):.4f}", "", *_asked(found, "band_mae"))
    dead = len(found["latents"]["dead_channels"])
    table.add_row("dead channels", str(dead), "", *_asked(found, "dead_channels"))
    return table


def _bands(found: dict[str, Any]) -> Table:
    table = Table(title="error by intensity", title_justify="left")
    for heading in ("intensity", "voxels", "MAE"):
        table.add_column(heading)
    for band in found["reconstruction"]["bands"]:
        limits = f"{band['from']:g} to {band['to']:g}"
        table.add_row(limits, f"{band['share']:.1%}", _number(band["mae"], ".4f"))
    return table


def _channels(found: dict[str, Any]) -> Table:
    latents = found["latents"]
    table = Table(title="latent by channel", title_justify="left")
    for heading in ("channel", "mean", "std", "noise share", "KL, nats a voxel", ""):
        table.add_column(heading)
    names = ("channel_mean", "channel_std", "channel_noise_share")
    # Latents that are no distributions have no KL.
    by_channel = latents["channel_kl"] or [None] * len(latents["channel_mean"])
    rows = zip(*(latents[name] for name in names), by_channel, strict=True)
    for index, row in enumerate(rows):
        mean, std, noise, kl = row
        dead = "dead" if index in latents["dead_channels"] else ""
        table.add_row(
            str(index), f"{mean:.3g}", f"{std:.3g}", f"{noise:.1%}", _number(kl, ".3g"), dead
        )
    overall = (latents["mean"], latents["std"], latents["noise_share"], latents["kl"])
    mean, std, noise, kl = overall
    table.add_row("all", f"{mean:.3g}", f"{std:.3g}", f"{noise:.1%}", _number(kl, ".3g"), "")
    return table


def _asked(found: dict[str, Any], key: str) -> tuple[str, str]:
    """Return what the recipe asks of a number, and whether it is so."""
    for row in found["criteria"]:
        if row["key"] == key:
            bound = "at least" if row["at_least"] else "at most"
            return f"{bound} {row['limit']:g}", "met" if row["met"] else "NOT MET"
    return "", ""


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
