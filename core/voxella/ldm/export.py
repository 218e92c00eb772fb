"""A trained model read back from its folder, without DeepSpeed; and its results for the observers.

What lies in the folder: :mod:`voxella.ldm.model_folder.folder`.

A stage's numbers for the observers: the same values as in its ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from voxella.errors import UserError
from voxella.ldm.build import LatentDiffusion, build_model
from voxella.ldm.model_folder.facts import AGAIN, ModelFacts, facts_sha256, load_facts
from voxella.ldm.model_folder.folder import (
    AUTOENCODER,
    CONDITIONS,
    FACTS,
    RECIPE,
    WEIGHTS,
    ModelOrigin,
    as_exported,
    is_whole,
    save_model,
)
from voxella.ldm.read_start import with_base
from voxella.observers.dispatch import ObserverSet
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders

__all__ = [
    "FACTS",
    "ModelFacts",
    "facts_sha256",
    "is_whole",
    "load_facts",
    "load_model",
    "observe_results",
    "save_model",
]


def load_model(folder: Path | str) -> LatentDiffusion:
    """Load an exported model, in evaluation mode, on the CPU.

    Needs neither DeepSpeed nor anything else of the run. ``model.save(FOLDER)`` writes it again.

    Raises:
        UserError: When the folder is incomplete, or its weights are not those of its recipe.
    """
    folder = Path(folder)
    facts = load_facts(folder)
    own = {name: sha256 for name, sha256 in facts.files.items() if name != AUTOENCODER}
    for name, sha256 in {**own, WEIGHTS: facts.weights_sha256}.items():
        if not as_exported(folder / name, sha256):
            raise UserError(
                f"{folder / name} is not the file that was exported: its hash differs, or it is "
                "gone",
                remedy="copy the whole folder again; or "
                + AGAIN.format(path=folder / FACTS, folder=folder),
            )
    recipe = load_recipe(folder / RECIPE)
    model = build_model(recipe, to_be_trained=False)
    state = load_file(folder / WEIGHTS)
    if facts.base_sha256 and recipe.lora is not None:
        state = with_base(model, recipe.init, recipe.lora, state, facts.base_sha256)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise UserError(
            f"{folder}: the weights do not fit the recipe ({len(missing)} missing, "
            f"{len(unexpected)} unexpected, first {[*missing, *unexpected][0]})",
            remedy="load it with the plugin versions named in config.json",
        )
    scale = facts.latent_scale
    model.latent_scale = tuple(scale) if isinstance(scale, list) else scale
    null_text = load_file(folder / CONDITIONS).get("null_text")
    model.null_text = None if null_text is None else null_text.to(torch.float32)
    model.origin = ModelOrigin(folder, facts, (folder / RECIPE).read_text(encoding="utf-8"))
    return model.eval()


def observe_results(
    recipe: Recipe, folders: Folders, stage: str, metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Hand every number that has a value to the recipe's observers, at the model's step.

    Args:
        recipe: The experiment.
        folders: Of the run.
        stage: What they are results of, such as ``evaluate`` or ``classify/real``.
        metrics: As in ``metrics.json``.
    """
    # The table says it all; a line per number would only push it off the screen.
    watching = [component for component in recipe.observers if component.name != "progress"]
    observers = ObserverSet(watching)
    try:
        step = load_facts(folders.model).step
    except UserError:
        step = 0
    observers.run_start(folders.run, recipe, stage, total_steps=0)
    for metric, number in metrics.items():
        if number["value"] is not None:
            observers.metric(step, metric, float(number["value"]))
    observers.run_end("finished")
