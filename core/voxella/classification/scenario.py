"""One row of the paper's third table: what all of its trainings share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from voxella.classification.batches import ImageBatchBuilder
from voxella.classification.best_checkpoint import read_best
from voxella.classification.examples import Example, Examples
from voxella.classification.predict import PREDICTIONS, as_predictions, predict, write_predictions
from voxella.classification.store import InputStore
from voxella.classification.task import build_task
from voxella.engine.settings import deepspeed_config
from voxella.ranks import Ranks
from voxella.recipe.classification import Classify
from voxella.recipe.model import Recipe

__all__ = ["Scenario"]


@dataclass(frozen=True)
class Scenario:
    """What all trainings of a scenario share.

    Attributes:
        recipe: The experiment.
        settings: Its ``classify`` block.
        folder: ``RUN/classify/NAME``.
        examples: The images.
        store: Their inputs.
        ranks: This process.
    """

    recipe: Recipe
    settings: Classify
    folder: Path
    examples: Examples
    store: InputStore
    ranks: Ranks

    @property
    def micro_batch(self) -> int:
        """Return how many cases go through the network at a time."""
        block, world = self.settings.deepspeed, self.ranks.world
        config = deepspeed_config(block, world=world, device=None)
        return int(config["train_micro_batch_size_per_gpu"])

    def builder(
        self, cases: Mapping[str, Example], seed: int, *, training: bool
    ) -> ImageBatchBuilder:
        """Return what makes batches of some of the images."""
        augment = self.settings.augment if training else None
        data = self.recipe.data
        return ImageBatchBuilder(
            cases, self.store, data.classes, data.positive_class, seed, augment
        )

    def model(self, seed: int, trained: Path | None) -> nn.Module:
        """Return a seed's classifier, untrained or with the best weights of a training."""
        model = build_task(
            self.settings, self.recipe.image_channels, len(self.recipe.data.classes), seed
        )
        if trained is not None:
            model.load_state_dict(read_best(trained)[0])
        return model

    def predict_held_out(self, seed: int, trained: Path) -> None:
        """Look at the test cases, the one time, and write what is said of them; collective.

        Args:
            seed: Of the training.
            trained: Its folder.
        """
        model = self.model(seed, trained).to(self.ranks.device).eval()
        found = {}
        for split, cases in (("val", self.examples.val), ("test", self.examples.test)):
            if cases:
                builder = self.builder(cases, seed, training=False)
                predicted = predict(model, builder, self.ranks, self.micro_batch)
                found[split] = as_predictions(cases, predicted, builder.classes, builder.positive)
        if self.ranks.is_main:
            write_predictions(trained / PREDICTIONS, found)
