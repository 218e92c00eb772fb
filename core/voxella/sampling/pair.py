"""Two volumes of one noise: of an invented report, and of the same with some words replaced."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from voxella.files import write_json_atomic
from voxella.progress import print_line
from voxella.recipe.sampling import Pair, Sample
from voxella.sampling.generator import Generator
from voxella.workspace.folders import Folders
from voxella.workspace.record import StageRecord
from voxella.workspace.state import StateFile, sealed

__all__ = ["PAIRS", "PAIR_FILE", "SIDES", "keep_pair"]

PAIR_FILE = "pair.json"
# Their folders; the volumes bear one name, for with the seed it decides their noise.
SIDES = ("before", "after")
_NAME = "pair"
_SAMPLING = ("sampler", "steps", "guidance")


class _Told(TypedDict):
    reports: list[str]
    images: list[str]
    seed: int


PAIRS: StateFile[dict[str, Any]] = StateFile(_Told, "rm {path}, then voxella sample RECIPE")


def keep_pair(pair: Pair, settings: Sample, seed: int, folders: Folders, model_sha256: str) -> None:
    """Make both volumes, unless they are there; on one process.

    Args:
        pair: The reports, which are nobody's.
        settings: How volumes are generated.
        seed: Of the noise.
        folders: Of the run, whose model is asked.
        model_sha256: Of the model's weights.

    Raises:
        UserError: The model reads no reports, or knows no such label or condition.
    """
    out = folders.pair
    how = settings.model_dump(mode="json", include={*_SAMPLING, "eta", "guidance_null"})
    inputs = {"pair": pair.model_dump(mode="json"), "model": model_sha256, "seed": seed, **how}
    record = StageRecord(out, "pair", inputs)
    if record.is_current():
        print_line(f"pair: up to date, {out}")
        return
    record.invalidate()
    generator = Generator.open(folders.model, autoencoder=folders.autoencoder)
    images = []
    reports = [pair.report, pair.changed]
    for side, report in zip(SIDES, reports, strict=True):
        (image,) = generator.generate(
            report=report,
            label=pair.label,
            conditions=pair.conditions,
            seed=seed,
            sampler=settings.sampler,
            steps=settings.steps,
            guidance=settings.guidance,
            name=_NAME,
        )
        first = image.save(out / side)[0]
        images.append(first.relative_to(out).as_posix())
    told = {"reports": reports, "images": images, "seed": seed}
    write_json_atomic(out / PAIR_FILE, sealed(told))
    record.complete([PAIR_FILE])
