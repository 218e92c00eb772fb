"""A model folder, opened for what writes it in another form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from torch import nn

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.export import load_model
from voxella.ldm.model_folder.facts import ModelFacts, load_facts
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.sampling.model_folder import folders_of_model, refuse_without_autoencoder

__all__ = ["TrainedModel"]


@dataclass(frozen=True)
class TrainedModel:
    """What a model folder holds. Networks are loaded when they are first asked for.

    Attributes:
        folder: The folder.
        recipe: The model's.
        facts: What the model says of itself.
    """

    folder: Path
    recipe: Recipe
    facts: ModelFacts

    @classmethod
    def open(cls, folder: Path, *, autoencoder_weights: Path | None = None) -> TrainedModel:
        """Read what is small.

        Args:
            folder: An exported model.
            autoencoder_weights: Where the file lies that the recipe names under
                ``autoencoder.weights``; None: where the recipe says.

        Raises:
            UserError: It is no exported model.
        """
        folder = Path(folder).absolute()
        facts = load_facts(folder)
        place = autoencoder_weights
        settings = [] if place is None else [f"autoencoder.weights={Path(place).absolute()}"]
        return cls(folder, load_recipe(folder / "recipe.yaml", (), settings), facts)

    @cached_property
    def network(self) -> LatentDiffusion:
        """Return the diffusion model, in evaluation mode, on the CPU."""
        return load_model(self.folder)

    @cached_property
    def autoencoder(self) -> nn.Module:
        """Return the autoencoder whose latents the model has learnt, frozen, on the CPU.

        Raises:
            UserError: Its weights are not there, or are another's.
        """
        folders = folders_of_model(self.folder)
        refuse_without_autoencoder(self.recipe.autoencoder_training, folders)
        found = load_autoencoder(AutoencoderPlan.of(self.recipe), folders.autoencoder)
        if found.fingerprint != self.facts.autoencoder_fingerprint:
            raise UserError(
                f"{self.folder}: the autoencoder is not the one whose latents the model has learnt",
                remedy="name the file of weights that it was trained with",
            )
        return cast("nn.Module", found.model)
