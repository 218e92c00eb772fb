"""Cases of two sequences whose class shows in the second alone, and a classifier made to see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation_bench import CCELLA, QUICK, SPACING_MM, affine
from numpy.typing import NDArray
from safetensors.torch import save_file
from tiny_run import REPOSITORY
from torch import Tensor
from torch.nn import functional

from voxella.case import Case, Manifest, Split
from voxella.classification.predict import write_predictions
from voxella.classification.task import build_task
from voxella.files import write_json_atomic
from voxella.imaging.volume import write_volume
from voxella.metrics.predictions import Predictions
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

SIZES: dict[Split, int] = {"train": 8, "val": 8, "test": 8}
REAL = str(REPOSITORY / "recipes" / "downstream" / "real.yaml")
_LABELS = ("negative", "positive")
_TWO = ("data.sequences=[t2w, adc]",)


def volumes(seed: int, positive: bool) -> dict[str, NDArray[np.float64]]:
    """A block that is bright in the second sequence of positive cases and dark in others."""
    generator = np.random.default_rng(seed)
    t2w, adc = (0.4 + 0.1 * generator.random((16, 16, 16)) for _ in range(2))
    adc[4:12, 4:12, 4:12] = 0.9 if positive else 0.1
    t2w[4:12, 4:12, 4:12] = (0.1, 0.9)[seed % 3 == 0]
    return {"t2w": t2w, "adc": adc}


class Clinic:
    """Prepared real cases in a workspace.

    Args:
        folder: The workspace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prepared = folder / "prepared"
        splits = [split for split, size in SIZES.items() for _ in range(size)]
        cases = [
            _written(self.prepared, f"case-{n:02d}", n, _LABELS[n % 2], n % 2 == 1, split)
            for n, split in enumerate(splits)
        ]
        Manifest(self.prepared, cases).write()
        write_json_atomic(self.prepared / "stage.json", {"inputs_sha256": "by hand"})

    def recipe(self, *overrides: str) -> Recipe:
        settings = [f"workspace={self.folder}", *QUICK, *_TWO, *overrides]
        return load_recipe(CCELLA, ["smoke"], settings)

    def training(self, *overrides: str) -> Recipe:
        own = ("classify.size=[16, 16, 8]", "classify.slice_mm=12", "classify.seeds=2")
        settings = [f"workspace={self.folder}", *QUICK, *_TWO, *own, *overrides]
        return load_recipe(REAL, ["smoke"], settings)

    def cases(self, split: str) -> list[Case]:
        return Manifest.read(self.prepared).split(split)


def counterparts(
    folder: Path, sources: Sequence[Case], shows: Sequence[bool], labels: Sequence[str | None]
) -> Path:
    """A synthetic case of each source that shows what it is told to, with any label."""
    made = []
    for number, (source, positive, label) in enumerate(zip(sources, shows, labels, strict=True)):
        case = _written(folder, f"{source.id}-s000", 500 + number, label, positive, source.split)
        extra = {**case.extra, "synthetic": True, "source_case": source.id}
        made.append(case.model_copy(update={"extra": extra}))
    Manifest(folder, made).write()
    return folder


def _written(
    folder: Path, name: str, seed: int, label: str | None, positive: bool, split: Split
) -> Case:
    images = {}
    for sequence, array in volumes(seed, positive).items():
        images[sequence] = f"{name}-{sequence}.nii.gz"
        write_volume(folder / images[sequence], array.astype(np.float32), affine())
    return Case(
        id=name,
        group=f"p-{name}",
        images=images,
        label=label,
        split=split,
        extra={"spacing_mm": list(SPACING_MM)},
    )


def by_hand(case: dict[str, NDArray[Any]]) -> Tensor:
    """The classifier's input of a case, written out: every other slice of 6 mm, 98 % and more
    are 1."""
    channels = []
    for array in case.values():
        slices = array.astype(np.float32)[..., ::2]
        low, high = slices.min(), np.percentile(slices, 98)
        channels.append(np.clip((slices - low) / (high - low), 0, 1).astype(np.float16))
    return torch.from_numpy(np.stack(channels)).float()


def trunk(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """What the small network's linear layer is given, written out for two stages."""
    rows = image[None]
    for stage, groups in ((0, 4), (3, 8)):
        start = f"classifier.features.{stage}"
        rows = functional.conv3d(
            rows, weights[f"{start}.weight"], weights[f"{start}.bias"], stride=2, padding=1
        )
        start = f"classifier.features.{stage + 1}"
        rows = functional.group_norm(
            rows, groups, weights[f"{start}.weight"], weights[f"{start}.bias"]
        )
        rows = functional.silu(rows)
    return rows.mean(dim=(2, 3, 4))


def knowing_weights(recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """A random network whose last layer tells the two kinds of block apart."""
    assert recipe.classify is not None
    task = build_task(recipe.classify, recipe.image_channels, len(recipe.data.classes), seed)
    weights = {name: value.clone() for name, value in task.state_dict().items()}
    kinds = [
        torch.cat([trunk(weights, by_hand(volumes(900 + n, kind))) for n in range(12)])
        for kind in (False, True)
    ]
    # The difference of the two means, in units of the spread around them.
    spread = sum(torch.cov(rows.T) for rows in kinds) + 1e-6 * torch.eye(kinds[0].shape[1])
    negative, positive = (rows.mean(dim=0) for rows in kinds)
    way = torch.linalg.solve(spread, positive - negative)
    way *= 20 / (way @ (positive - negative))
    weights["classifier.head.weight"] = torch.stack([torch.zeros_like(way), way])
    weights["classifier.head.bias"] = torch.stack(
        [torch.tensor(0.0), -way @ (positive + negative) / 2]
    )
    return weights


def kept(
    folder: Path,
    recipe: Recipe,
    weights: Sequence[dict[str, Tensor]],
    apart: Mapping[str, Sequence[Case]],
) -> Path:
    """Write a finished classifier as `voxella classify` leaves it.

    Args:
        folder: ``RUN/classify/NAME``.
        recipe: Of its training.
        weights: Of each seed.
        apart: Cases that it says it has predicted, by split.
    """
    said = {
        split: Predictions.of(
            [case.id for case in cases],
            [case.label == "positive" for case in cases],
            [0.5] * len(cases),
            patients=[case.group for case in cases],
        )
        for split, cases in apart.items()
        if cases
    }
    for seed, state in enumerate(weights):
        home = folder / f"seed-{seed}"
        home.mkdir(parents=True)
        header = '{"step": 1, "auc": null, "loss": 1.0, "training": "by hand"}'
        save_file(state, home / "best.safetensors", metadata={"voxella": header})
        write_predictions(home / "predictions.jsonl", said)
        StageRecord(home, "classify", {}).complete()
    (folder / "recipe.yaml").write_text(dump_recipe(recipe))
    write_json_atomic(folder / "metrics.json", {"format": 1})
    StageRecord(folder, "classify", {}).complete()
    return folder
