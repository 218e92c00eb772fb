"""The numbers of a run written by hand, as ``voxella evaluate`` and ``classify`` leave them."""

from __future__ import annotations

import json
from typing import Any

from voxella.files import write_json_atomic, write_text_atomic
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["estimate", "write_classifier", "write_evaluation"]


def estimate(value: float | None, low: float | None, high: float | None, **more: Any) -> Any:
    """One entry of ``metrics.json``."""
    own = {"n": 40, "level": 0.95, "how": "bootstrap of patients", "note": None, "split": "train"}
    return {"value": value, "low": low, "high": high, **own, **more}


def write_evaluation(
    folders: Folders, cases: list[str], synthetic: int, *, network: str = "random-seed0"
) -> None:
    """Write ``metrics.json`` and ``memorisation.json``; of the paper's network: comparable.

    A paper's row is written for held-out cases alone.
    """
    papers = not network.startswith("random")
    split = "test" if papers else "train"
    beside = {"network": network, "comparable_with_paper": papers}
    floor = {"value": 0.004, "low": 0.002, "high": 0.007, "n": 20}
    metrics = {
        "fid_3d": estimate(0.0931, 0.071, 0.125, **beside, floor=floor),
        "kid_3d": estimate(0.0123, 0.0098, 0.0151, **beside, floor=floor),
        "fid_2d_axial": estimate(
            3.21, 2.9, 3.8, **beside, floor={**floor, "value": 0.5, "low": 0.4, "high": 0.7}
        ),
        "ms_ssim": estimate(0.412, 0.38, 0.45),
        "precision": estimate(0.81, 0.7, 0.9, **beside),
        "coverage": estimate(0.64, 0.5, 0.77, **beside),
        "histogram_distance": estimate(0.031, 0.02, 0.05),
        "text_accuracy": estimate(0.84, 0.72, 0.92),
        "text_auc": estimate(0.9, 0.81, 0.96),
        "text_accuracy_with_report": estimate(0.86, 0.74, 0.94),
        "adherence_side": estimate(0.7, 0.55, 0.82),
        "adherence_zone": estimate(None, None, None, note="no detector: /home/someone/x is absent"),
        "copies_share_latent": estimate(0.05, 0.01, 0.17),
    }
    for key, entry in metrics.items():
        entry["split"] = "test" if key.startswith("copies") else split
    networks = [{"name": network, "kind": "3d", "features": 16, "comparable_with_paper": papers}]
    write_json_atomic(
        folders.evaluation / "metrics.json",
        {
            "format": 1,
            "split": split,
            "cases": {"synthetic": synthetic, "real": 4, "training": 4, "unseen": 1},
            "networks": networks,
            "metrics": metrics,
            "tissue_bands": [{"percentiles": [0, 50], "share_real": 0.5, "share_synthetic": 0.46}],
            "calibration": {"text": [_bin(0.2, 0.1), _bin(0.8, 0.9), _bin(None, None)]},
            **({"paper": {"model": "ccella", "accuracy": 0.81}} if papers else {}),
        },
    )
    ratios = [0.31 + 0.09 * k for k in range(min(synthetic, 10))]
    pairs = [
        {
            "synthetic": f"{cases[k]}-s000",
            "training": cases[(k + 1) % len(cases)],
            "distance": 3.0 + k,
            "ratio": ratio,
            "p_value": 0.02 + 0.1 * k,
            "suspected": ratio < 0.35,
        }
        for k, ratio in enumerate(ratios)
    ]
    share = estimate(0.05, 0.01, 0.17)
    latent = {"share": share, "false_alarms": 0.048, "threshold": 0.35, "worst": pairs}
    latent |= {"own_source": estimate(0.1, 0.03, 0.24)}
    latent |= {"beyond_chance": {"share": estimate(0.0, 0.0, 0.09), "threshold": 0.1, "ids": []}}
    image = {"note": "fewer than three training cases"}
    write_json_atomic(
        folders.evaluation / "memorisation.json",
        {"unseen_split": "test", "unseen": 1, "spaces": {"latent": latent, "image": image}},
    )
    StageRecord(folders.evaluation, "evaluate", {}).complete(metrics=len(metrics))


def _bin(predicted: float | None, observed: float | None) -> dict[str, Any]:
    return {"predicted": predicted, "observed": {"value": observed}}


def write_classifier(folders: Folders, name: str = "real") -> None:
    """Write a scenario as ``voxella classify`` does."""
    beside = {"split": "test", "comparable_with_paper": False}
    metrics = {
        "auc": estimate(0.71, 0.6, 0.8, **beside),
        "accuracy": estimate(0.66, 0.55, 0.76, **beside),
        "npv": estimate(None, None, None, note="nothing was called negative", **beside),
        "percent_positive": estimate(56.0, None, None, **beside),
    }
    paper = {"model": "real", "auc": 0.76, "accuracy": 0.7}
    folder = folders.run / "classify" / name
    write_json_atomic(
        folder / "metrics.json",
        {
            "format": 1,
            "metrics": metrics,
            "training_set": "real",
            "label": "clinical",
            "classifier": "cnn",
            "cases": {"train": 4, "val": 1, "test": 1},
            "not_comparable_with_paper": "the data are phantoms",
            "paper": paper,
            "seeds": {
                "0": {"chosen": {"step": 20, "auc": 0.8, "loss": 0.5}, "pretrain": {"step": 10}},
                "1": {"chosen": {"step": 10, "auc": 0.6, "loss": 0.6}},
            },
        },
    )
    up = [0.0, 0.2, 0.5, 0.7, 0.9, 1.0]
    roc = {"false_positive_rate": [0.0, 0.0, 0.2, 0.4, 0.7, 1.0], "true_positive_rate": up}
    precision = {"precision": [0.5, 0.6, 0.7, 0.8, 0.9, 1.0], "recall": up[::-1]}
    curves = {"cases": 10, "positive": 5, "roc": roc, "pr": precision}
    write_json_atomic(folder / "curves.json", {"format": 1, "seeds": {"0": curves, "1": None}})
    for seed in (0, 1):
        auc = (0.6, 0.8 - 0.3 * seed, 0.7)
        for home in (folder / f"seed-{seed}", folder / "seed-0" / "pretrain"):
            steps = [
                {"step": 10 * (k + 1), "validation/loss": 0.9 - a, "validation/auc": a}
                for k, a in enumerate(auc)
            ]
            lines = [json.dumps(step) + "\n" for step in steps]
            write_text_atomic(home / "validation.jsonl", "".join(lines))
            write_text_atomic(home / "log.jsonl", '{"step": 10, "loss/total": 0.5}\n')
    write_text_atomic(folder / "recipe.yaml", (folders.run / "recipe.yaml").read_text())
