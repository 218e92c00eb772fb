"""What a trained autoencoder leaves: weights, the numbers of its training, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxella.autoencoder.load import WEIGHTS, AutoencoderPlan, load_autoencoder
from voxella.autoencoder.report import evaluate_autoencoder, write_panel
from voxella.autoencoder.tiling.choice import tiled
from voxella.data.volumes import PreparedVolumes
from voxella.engine.log import LOSSES
from voxella.files import write_json_atomic
from voxella.hashing import sha256_file
from voxella.progress import print_line
from voxella.recipe.autoencoder import AutoencoderCheck
from voxella.weights import write_state_dict

__all__ = ["FACTS", "LOG", "PANEL", "export"]

FACTS = "autoencoder.json"
LOG = "log.jsonl"
PANEL = "reconstruction.png"


def export(
    plan: AutoencoderPlan,
    check: AutoencoderCheck,
    weights: dict[str, Tensor],
    volumes: PreparedVolumes,
    out: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Write weights, facts and picture; return the facts worth keeping in the stage's record.

    Args:
        plan: What the autoencoder is built from.
        check: On how many cases it is measured.
        weights: Of the autoencoder, by name.
        volumes: The prepared data set.
        out: Receives the files; holds the log of the training.
        device: Where to measure.
    """
    write_state_dict(out / WEIGHTS, weights)
    coder = load_autoencoder(plan, out, device)
    # A training on patches may have no memory for whole volumes.
    model = tiled(coder, plan, device, alone=True)
    report = evaluate_autoencoder(model, volumes, device=device, settings=check)
    print_line(str(report))
    write_panel(out / PANEL, report, model, volumes, device, plan.shown)
    history = _losses(out)
    facts = {
        "sha256": sha256_file(out / WEIGHTS),
        "fingerprint": coder.fingerprint,
        "steps": history[-1]["step"] if history else 0,  # none where it was fitted at once
        "losses": history,
        "reconstruction": report.as_json(),
    }
    write_json_atomic(out / FACTS, facts)
    print_line(f"autoencoder: {out / WEIGHTS}, picture {out / PANEL}")
    return facts | {"losses": history[-1:]}


def _losses(out: Path) -> list[dict[str, float]]:
    """Return the losses of the log, by step."""
    rows = []
    for line in LOSSES.read(out / LOG):
        if "loss/total" in line:
            terms = {k.removeprefix("loss/"): v for k, v in line.items() if k.startswith("loss/")}
            rows.append({"step": line["step"], "loss": terms.pop("total"), **terms})
    return rows
