"""A finished run, written by hand: tiny volumes and the files that the stages would have left."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from report_results import write_classifier, write_evaluation
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest
from voxella.files import write_json_atomic, write_text_atomic
from voxella.hashing import sha256_bytes
from voxella.imaging.montage import write_png
from voxella.imaging.volume import write_volume
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord

__all__ = ["CASES", "SECRET", "SHAPE", "SYNTHETIC", "real_value", "write_run"]

CASES, SYNTHETIC = 6, 3
SHAPE = (24, 20, 12)
# No page may hold it unless it was asked for.
SECRET = "Hypointense focus <b>left</b> mid gland & secret-marker-7431"
_SPACING = (2.0, 2.0, 3.0)

Volume = NDArray[np.float32]
Maker = Callable[[int, bool], tuple[Volume, tuple[float, float, float]]]


def real_value(index: int, synthetic: bool, s: int) -> float:
    """The grey that all of slice ``s`` has: what a test finds again on the page."""
    return (40 + 10 * s + (100 if synthetic else 0) + 2 * index) / 255


def _volume(index: int, synthetic: bool) -> tuple[Volume, tuple[float, float, float]]:
    array = np.empty(SHAPE, dtype=np.float32)
    for s in range(SHAPE[2]):
        array[:, :, s] = real_value(index, synthetic, s)
    return array, _SPACING


def write_run(
    run: Path, make: Maker = _volume, *, cases: int = CASES, synthetic: int = SYNTHETIC
) -> Folders:
    """Write everything; ``make(index, synthetic)`` gives a volume in [0, 1] and its spacing."""
    recipe = load_recipe(REPOSITORY / "recipes" / "ccella.yaml", ["smoke"])
    folders = Folders.of(run, recipe.workspace, recipe.data.dataset)
    write_text_atomic(run / "recipe.yaml", dump_recipe(recipe))
    real = [_case(index, cases) for index in range(cases)]
    for case in real:
        write_text_atomic(folders.dataset / str(case.report), _report(case.id))
    Manifest(folders.dataset, real).write()
    importer = {"importer": {"name": "phantom"}}
    StageRecord(folders.dataset, "import", importer).complete(cases=cases, reports=cases)
    _images(folders, real, make, synthetic)
    _training(folders)
    _autoencoder(folders, make)
    write_evaluation(folders, [case.id for case in real], synthetic)
    write_classifier(folders)
    return folders


def _report(case_id: str) -> str:
    return f"{SECRET} {case_id}"


def _case(index: int, cases: int) -> Case:
    split = "test" if index >= cases - 1 else "val" if index >= cases - 2 else "train"
    name = f"case-{index:02d}"
    return Case(
        id=name,
        group=f"patient-{index:02d}",
        images={"t2w": f"images/{name}_t2w.nii.gz"},
        texts={"report": f"reports/{name}.txt"},
        texts_sha256={"report": sha256_bytes(_report(name).encode())},
        label=("negative", "positive")[index % 2],
        label_source="phantom",
        split=split,
        extra={"site": ("north", "south")[index % 2]},
    )


def _images(folders: Folders, real: list[Case], make: Maker, synthetic: int) -> None:
    prepared = []
    for index, case in enumerate(real):
        array, spacing = make(index, False)
        write_volume(folders.prepared / case.images["t2w"], array, np.diag([*spacing, 1.0]))
        extra = {**case.extra, "spacing_mm": list(spacing)}
        prepared.append(case.model_copy(update={"texts": {}, "extra": extra}))
    Manifest(folders.prepared, prepared).write()
    StageRecord(folders.prepared, "prepare", {"cases_sha256": "c" * 64}).complete(
        cases=len(real), quarantined=1, padded=2, oblique=0
    )
    counterparts = []
    for index, case in enumerate(prepared[:synthetic]):
        array, spacing = make(index, True)
        counterpart = f"{case.id}-s000"
        path = f"volumes/{counterpart}_t2w.nii.gz"
        stored = np.rint(array * 962).astype(np.int64)
        write_volume(folders.samples / path, stored, np.diag([*spacing, 1.0]))
        counterparts.append(
            Case(
                id=counterpart,
                group=f"synthetic-{case.group}",
                images={"t2w": path},
                label=case.label,
                label_source="given",
                split=case.split,
                extra={
                    "synthetic": True,
                    "source_case": case.id,
                    "spacing_mm": list(spacing),
                    "prompt_sha256": case.report_sha256,
                    "predicted_label": case.label,
                    "predicted_probability": 0.83,
                    "model": "ab" * 32,
                    "seed": 0,
                    "sampler": "dpmpp_2m",
                    "steps": 20,
                    "guidance": 1.0,
                    "int16_scale": 962.0,
                },
            )
        )
    Manifest(folders.samples, counterparts).write()
    gate = {"limit": 0.01, "share": 0.05, "high": 0.17, "passed": False, "space": "latent"}
    write_json_atomic(folders.samples / "gate.json", gate)
    StageRecord(folders.samples, "sample", {}).complete(volumes=len(counterparts))


def _training(folders: Folders) -> None:
    lines = []
    for step in range(10, 2001, 10):
        fall = math.exp(-step / 300) + 0.05 * math.sin(step * 1.7)
        scalars = {
            "step": step,
            "loss/total": 0.21 + 0.6 * fall,
            "loss/reconstruction": 0.2 + 0.6 * fall,
            "loss/class": 0.3 + 0.4 * math.exp(-step / 700),
            "class_head/accuracy": 0.85 - 0.35 * math.exp(-step / 500),
            "lr": 1e-4 * (1 - step / 2001) ** 2,
            "grad_norm": 0.4 + 8 * math.exp(-step / 200) + 0.1 * math.sin(step),
            "cases_per_second": 3.1 + 0.1 * math.sin(step / 40),
            "memory_gib": 2.5,
        }
        if step % 200 == 0:
            scalars["validation/reconstruction"] = 0.22 + 0.6 * math.exp(-step / 280)
        for k in range(4):
            scalars[f"loss/timestep_quartile_{k + 1}"] = (0.45 - 0.1 * k) * (0.4 + fall)
        lines.append(json.dumps(scalars) + "\n")
    # A kill cut the last line short.
    write_text_atomic(folders.run / "train" / "log.jsonl", "".join(lines) + '{"step": 2010, "lo')
    StageRecord(folders.run / "train", "train", {}).complete(steps=2000, latent_scale=1.02)
    facts = {"weights_sha256": "ab" * 32, "autoencoder_fingerprint": "cd" * 32}
    write_json_atomic(folders.model / "config.json", {**facts, "text": {"encoder": "ef" * 32}})


def _autoencoder(folders: Folders, make: Maker) -> None:
    array, _ = make(0, False)
    grey = (array[:, :, array.shape[2] // 2].T * 255).astype(np.uint8)
    write_png(folders.autoencoder / "check.png", np.tile(grey, (3, 9)))
    measured = {"split": "val", "n": 4, "psnr_db": 31.42, "psnr_db_lowest": 28.9}
    measured |= {"ssim": 0.9312, "ssim_lowest": 0.902, "mae": 0.0123, "mae_highest": 0.0171}
    bands = [{"from": 0.0, "to": 0.5, "share": 0.7, "mae": 0.011}]
    bands.append({"from": 0.5, "to": 1.0, "share": 0.3, "mae": 0.031})
    psnr = {"key": "psnr_db", "measured": 31.42, "limit": 30.0, "at_least": True, "met": True}
    ssim = {"key": "ssim", "measured": 0.9312, "limit": 0.95, "at_least": True, "met": False}
    check = {
        "trusted": False,
        "criteria": [psnr, ssim],
        "reconstruction": {**measured, "bands": bands},
        "latents": {"dead_channels": []},
    }
    write_json_atomic(folders.autoencoder / "check.json", check)
