"""Small data sets for classifiers: a blob that is bright in positive cases and dark in others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tiny_run import REPOSITORY

from voxella.case import Case, Manifest, Split
from voxella.classification.examples import Examples, select
from voxella.imaging.volume import write_volume
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe

__all__ = ["SIZE", "blob_recipe", "chosen", "real_cases", "synthetic_cases"]

SIZE = (12, 12, 8)
_LABELS = ("negative", "positive")


def blob_recipe(name: str, *overrides: str) -> Recipe:
    """A downstream recipe at test size, without observers and without random changes."""
    own = [
        f"classify.size={list(SIZE)}",
        f"prepare.size={list(SIZE)}",
        "latent.size=[3, 3, 2]",
        "classify.augment.probability=0",
        "observers=[]",
        "evaluate.bootstrap=100",
    ]
    path = str(REPOSITORY / "recipes" / "downstream" / f"{name}.yaml")
    return load_recipe(path, ["smoke"], [*own, *overrides])


def chosen(recipe: Recipe, prepared: Manifest, samples: Manifest | None) -> Examples:
    """The images of a recipe's scenario."""
    assert recipe.classify is not None
    return select(recipe.classify, recipe.data.classes, prepared, samples)


def real_cases(folder: Path, splits: Mapping[Split, int], **changes: Any) -> Manifest:
    """A prepared data set: in each split cases of either class, in turn."""
    cases = [
        _case(folder, f"real-{split}-{number}", number % 2, number, split=split, **changes)
        for split, count in splits.items()
        for number in range(count)
    ]
    manifest = Manifest(folder, cases)
    manifest.write()
    return manifest


def synthetic_cases(folder: Path, real: Manifest, **changes: Any) -> Manifest:
    """A counterpart of every training case, as `voxella sample` leaves it: int16 and its origin."""
    counterparts = []
    for number, source in enumerate(real.split("train")):
        extra = {
            "synthetic": True,
            "source_case": source.id,
            "int16_scale": 962.0,
            "space": "prepared",
            "predicted_label": source.label,
        }
        target = _LABELS.index(source.label or "")
        counterpart = _case(folder, f"{source.id}-s000", target, 100 + number, scale=962.0)
        known = {"group": f"synthetic-{source.group}", "extra": extra, "label_source": "given"}
        counterparts.append(counterpart.model_copy(update={**known, **changes}))
    manifest = Manifest(folder, counterparts)
    manifest.write()
    return manifest


def _case(
    folder: Path,
    case_id: str,
    target: int,
    seed: int,
    *,
    split: Split = "train",
    scale: float | None = None,
    **changes: Any,
) -> Case:
    generator = np.random.default_rng(seed)
    array = 0.4 + 0.1 * generator.random(SIZE)
    array[4:8, 4:8, 2:6] = (0.1, 0.9)[target]
    relative = f"images/{case_id}_t2w.nii.gz"
    stored = array if scale is None else np.rint(array * scale).astype(np.int64)
    write_volume(folder / relative, stored, np.diag([1.0, 1.0, 3.0, 1.0]))
    known: dict[str, Any] = {
        "id": case_id,
        "group": f"p-{case_id}",
        "images": {"t2w": relative},
        "label": _LABELS[target],
        "label_source": "pirads",
        "split": split,
        "extra": {"prepared_sha256": f"{case_id}-{seed}"},
    }
    return Case(**known | changes)
