"""A model folder by itself, without the run that it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxella.autoencoder.load import WEIGHTS
from voxella.errors import UserError
from voxella.recipe.training import AutoencoderTraining
from voxella.recipe.yaml_lines import parse_text, plain
from voxella.workspace.folders import Folders

__all__ = ["folders_of_model", "refuse_without_autoencoder"]

_RECIPE = "recipe.yaml"


def folders_of_model(model: Path) -> Folders:
    """Return the folders of the run that a model lies in, as far as it lies in one.

    The run's own recipe says where its caches are; the model's does not, for it may be given away.

    Args:
        model: The model folder, absolute.
    """
    run = model.parent
    path = run / _RECIPE if (run / _RECIPE).is_file() else model / _RECIPE
    recipe: Any = plain(parse_text(path.read_text("utf-8"), str(path), path.parent, lines=False))
    places = [recipe.get("workspace"), (recipe.get("data") or {}).get("dataset")]
    work, dataset = (None if place is None else Path(place) for place in places)
    found = Folders.of(run, work, dataset)
    return Folders(found.run, found.work, found.dataset, given=model)


def refuse_without_autoencoder(training: AutoencoderTraining | None, folders: Folders) -> None:
    """Refuse a model that has left its run without the autoencoder that was trained there.

    Args:
        training: The recipe's ``autoencoder_training``; None: the recipe names a file of weights.
        folders: With the model as ``given``.

    Raises:
        UserError: Saying which file is missing, and where to take it from.
    """
    model, weights = folders.model, folders.autoencoder / WEIGHTS
    if training is not None and not weights.is_file():
        raise UserError(
            f"{model} was exported without its autoencoder, and it does not lie in its run",
            expected=f"{model / 'autoencoder' / WEIGHTS}",
            remedy=f"mkdir {model / 'autoencoder'} && cp RUN/autoencoder/{WEIGHTS} "
            f"{model / 'autoencoder'}",
        )
