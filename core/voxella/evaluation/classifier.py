"""A finished classifier of real images: found, checked against the experiment, and loaded.

``evaluate.classifier`` names ``RUN/classify/NAME`` as `voxella classify` leaves it. Its kept recipe
says what it was trained on and how images reach it; its predictions, which cases it never saw.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from voxella.classification.best_checkpoint import BEST, read_best
from voxella.classification.predict import PREDICTIONS, read_predictions
from voxella.classification.store import INPUT_SETTINGS
from voxella.classification.task import ClassifierTask, build_task
from voxella.errors import UserError
from voxella.hashing import sha256_file, sha256_json
from voxella.machine import raise_if_machine
from voxella.metrics.declared.measured import reason
from voxella.recipe.classification import Classify
from voxella.recipe.inputs import Data, Prepare
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.state import RECORD, DamagedError

__all__ = ["HELD_OUT", "TRAIN_ONE", "FrozenClassifier", "frozen_classifier"]

TRAIN_ONE = (
    "voxella classify recipes/downstream/real.yaml --out RUN, then "
    "--set evaluate.classifier=RUN/classify/real"
)
# The splits that a classifier does not learn from, the one that it was never chosen by first.
HELD_OUT = ("test", "val")
_RECIPE, _METRICS = "recipe.yaml", "metrics.json"
_KEY = "evaluate.classifier"


@dataclass(frozen=True)
class FrozenClassifier:
    """A finished training.

    Attributes:
        folder: ``RUN/classify/NAME``.
        recipe: That it was trained with.
    """

    folder: Path
    recipe: Recipe

    @property
    def name(self) -> str:
        """Return what its numbers are named by."""
        return f"classifier-{self.recipe.name}"

    @property
    def settings(self) -> Classify:
        """Return the block that says how images reach it."""
        settings = self.recipe.classify
        assert settings is not None, "checked before"
        return settings

    @property
    def seeds(self) -> range:
        """Return the seeds of its trainings."""
        return range(self.recipe.seed, self.recipe.seed + self.settings.seeds)

    def home(self, seed: int) -> Path:
        """Return the folder of one training."""
        return self.folder / f"seed-{seed}"

    @cached_property
    def weights_sha256(self) -> list[str]:
        """Return the hash of each training's weights."""
        return [sha256_file(self.home(seed) / BEST) for seed in self.seeds]

    def fingerprint(self, trainings: int) -> str:
        """Return a hash of the first trainings' weights and of how images reach them."""
        inputs = self.settings.model_dump(mode="json", include=set(INPUT_SETTINGS))
        network = self.settings.classifier.model_dump(mode="json")
        data = [self.recipe.data.sequences, self.recipe.data.classes]
        return sha256_json([self.name, self.weights_sha256[:trainings], network, inputs, data])

    @cached_property
    def apart(self) -> dict[str, frozenset[tuple[str, str]]]:
        """Return by split the cases that it has not learnt from, as ``(case, patient)``."""
        path = self.home(self.seeds[0]) / PREDICTIONS
        found = {split: read_predictions(path, split) for split in HELD_OUT}
        return {
            split: frozenset(zip(known.ids, known.patients, strict=True) if known else ())
            for split, known in found.items()
        }

    def load(self, seed: int, device: torch.device | str) -> ClassifierTask:
        """Return one training's best weights in their network, in evaluation mode.

        Raises:
            UserError: They cannot be read, or are another network's.
        """
        task = build_task(
            self.settings, self.recipe.image_channels, len(self.recipe.data.classes), seed
        )
        try:
            task.load_state_dict(read_best(self.home(seed))[0])
        except (RuntimeError, SafetensorError, DamagedError) as error:
            raise_if_machine(error, self.home(seed) / BEST)
            raise UserError(
                f"{_KEY}: {self.home(seed) / BEST} holds no weights of the classifier "
                f"{self.settings.classifier.name} ({type(error).__name__})",
                remedy=TRAIN_ONE,
            ) from None
        return task.to(device).eval()

    def told(self) -> dict[str, Any]:
        """Return what ``metrics.json`` says of it."""
        return {
            "name": self.name,
            "network": self.settings.classifier.name,
            "seeds": list(self.seeds),
            "weights_sha256": self.weights_sha256,
            "training_set": self.settings.training_set,
            "comparable_with_paper": False,
        }


def frozen_classifier(folder: Path | None, data: Data, prepare: Prepare) -> FrozenClassifier | None:
    """Return the classifier that an evaluation names; None where it names none.

    Args:
        folder: ``evaluate.classifier``.
        data: Sequences and classes of this experiment.
        prepare: Its grid.

    Raises:
        UserError: It is absent, unfinished, not trained on real images, or on other ones than this
            experiment's: all of what is wrong.
    """
    if folder is None:
        return None
    kept = _read(folder)
    problems = [*_misfits(kept, data, prepare), *_unfinished(kept)]
    if problems:
        raise UserError(
            "\n".join(f"{_KEY}: {folder}: {problem}" for problem in problems), remedy=TRAIN_ONE
        )
    return kept


def _read(folder: Path) -> FrozenClassifier:
    wanted = (_RECIPE, _METRICS, RECORD)
    absent = [name for name in wanted if not (folder / name).is_file()]
    if absent:
        what = f"no {', no '.join(absent)}" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{_KEY}: {folder} is no finished classifier: {what}", remedy=TRAIN_ONE)
    try:
        recipe = load_recipe(folder / _RECIPE)
    except UserError as error:
        raise UserError(f"{_KEY}: {reason(error)}", remedy=TRAIN_ONE) from None
    if recipe.classify is None:
        raise UserError(f"{_KEY}: {folder / _RECIPE} has no classify block", remedy=TRAIN_ONE)
    return FrozenClassifier(folder, recipe)


def _misfits(kept: FrozenClassifier, data: Data, prepare: Prepare) -> list[str]:
    """Say why a classifier cannot judge this experiment's images."""
    problems = []
    if kept.settings.training_set != "real":
        problems.append(
            f"it was trained on {kept.settings.training_set} images, which cannot judge "
            "synthetic ones; expected: real"
        )
    for key in ("classes", "sequences"):
        theirs, ours = (", ".join(getattr(one, key)) for one in (kept.recipe.data, data))
        if theirs != ours:
            problems.append(f"its data.{key} are {theirs}, this recipe's {ours}")
    made, wanted = (one.model_dump(mode="json") for one in (kept.recipe.prepare, prepare))
    differing = [f"prepare.{key}" for key in wanted if made[key] != wanted[key]]
    if differing:
        problems.append(
            f"its images were prepared in another way ({', '.join(differing)}): it would judge the "
            "grid"
        )
    return problems


def _unfinished(kept: FrozenClassifier) -> list[str]:
    absent = [
        str((kept.home(seed) / name).relative_to(kept.folder))
        for seed in kept.seeds
        for name in (BEST, PREDICTIONS, RECORD)
        if not (kept.home(seed) / name).is_file()
    ]
    return [f"it is not finished: no {', no '.join(absent)}"] if absent else []
