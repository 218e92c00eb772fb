"""The exported model folder: what lies in it, written and read without building a network.

``model.safetensors`` (averaged weights where there is an average), ``conditions.safetensors`` (the
empty report's features), ``autoencoder/model.safetensors`` where the run trained its autoencoder,
``recipe.yaml`` (resolved, without the paths of the data), ``config.json`` (:class:`ModelFacts`) and
``README.md``, the model card. No report text, no case id.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from voxella.errors import UserError
from voxella.files import atomic_path, write_json_atomic, write_text_atomic
from voxella.hashing import sha256_file
from voxella.ldm.model_card import write_card
from voxella.ldm.model_folder.facts import FORM, ModelFacts
from voxella.ldm.model_folder.published import without_places
from voxella.weights import write_state_dict
from voxella.workspace.folders import MODEL_FACTS, OLD_MODEL_FACTS, model_facts_path
from voxella.workspace.state import print_once

__all__ = [
    "AUTOENCODER",
    "CONDITIONS",
    "FACTS",
    "RECIPE",
    "WEIGHTS",
    "ModelOrigin",
    "as_exported",
    "is_whole",
    "save_model",
]

FACTS, RECIPE = MODEL_FACTS, "recipe.yaml"
WEIGHTS, CONDITIONS = "model.safetensors", "conditions.safetensors"
# A folder of its own, as `voxella train-autoencoder` leaves one.
AUTOENCODER = "autoencoder/model.safetensors"


@dataclass(frozen=True)
class ModelOrigin:
    """Where a loaded model comes from, and what it takes along when it is saved again.

    Attributes:
        folder: The folder that it was loaded from.
        facts: Its facts.
        recipe: Its ``recipe.yaml``.
    """

    folder: Path
    facts: ModelFacts
    recipe: str

    def save(
        self,
        folder: Path,
        state: dict[str, Tensor],
        scale: float | list[float],
        null_text: Tensor | None,
    ) -> Path:
        """Write the model as it is now; see :func:`save_model`."""
        facts = replace(self.facts, latent_scale=scale)
        inside = self.folder / AUTOENCODER if AUTOENCODER in self.facts.files else None
        return save_model(folder, state, self.recipe, facts, null_text, autoencoder=inside)


def save_model(
    folder: Path,
    state: dict[str, Tensor],
    recipe: str,
    facts: ModelFacts,
    null_text: Tensor | None,
    *,
    autoencoder: Path | None = None,
) -> Path:
    """Write the folder; ``config.json`` comes last but for the card: it says the folder is whole.

    Args:
        folder: ``RUN/model``.
        state: The whole state dict, on the CPU.
        recipe: The resolved recipe, as YAML.
        facts: All but ``weights_sha256`` and ``files``, which are measured here.
        null_text: ``(1, L, F)`` features of the empty report, or None.
        autoencoder: Weights of an autoencoder that was trained for this model, which are copied;
            None: the recipe names a file of its own.

    Raises:
        UserError: There are no such weights.
    """
    for name in (FACTS, OLD_MODEL_FACTS):
        (folder / name).unlink(missing_ok=True)
    write_state_dict(folder / WEIGHTS, state)
    write_state_dict(folder / CONDITIONS, {} if null_text is None else {"null_text": null_text})
    write_text_atomic(folder / RECIPE, without_places(recipe))
    names = [CONDITIONS, RECIPE]
    if autoencoder is not None:
        _copy(autoencoder, folder / AUTOENCODER)
        names.append(AUTOENCODER)
    measured = {
        "weights_sha256": sha256_file(folder / WEIGHTS),
        "files": {name: sha256_file(folder / name) for name in names},
    }
    told = facts.told()
    write_json_atomic(folder / FACTS, told | measured)
    write_card(folder, told | measured)
    return folder


def _copy(weights: Path, target: Path) -> None:
    if not weights.is_file():
        raise UserError(
            f"the model's autoencoder is gone: {weights} does not exist",
            remedy="put the model's folder back as it was, or train the autoencoder again: "
            "voxella train-autoencoder RECIPE",
        )
    if target.exists() and target.samefile(weights):
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(weights, temporary)


def is_whole(folder: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a model is exported, and its files but the weights are as they were written.

    The card is not among them: an evaluation renews it, and a user may add to it.

    Args:
        folder: ``RUN/model``.
        record: What the training's record says of it.
    """
    facts = model_facts_path(folder)
    found = FORM.read_or_remake(facts)
    if found is None:
        return False
    # The second name is of before `config.json`.
    known = record.get("config_sha256", record.get("model_json_sha256"))
    files = {**found.get("files", {}), **({} if known is None else {facts.name: known})}
    damaged = [name for name, sha256 in files.items() if not as_exported(folder / name, sha256)]
    for name in damaged:
        print_once(f"{folder / name} is damaged; the model is exported again")
    return not damaged and (folder / WEIGHTS).is_file()


def as_exported(path: Path, sha256: str) -> bool:
    """Return whether a file is there, with the content that its hash tells."""
    return path.is_file() and sha256_file(path) == sha256
