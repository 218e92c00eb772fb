"""The exported model folder: weights and the facts that sampling needs, without DeepSpeed.

``model.safetensors`` (averaged weights where there is an average), ``conditions.safetensors`` (the
empty report's features), ``recipe.yaml`` (resolved) and ``model.json``. No report text, no case id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from voxella.errors import UserError
from voxella.files import atomic_path, sha256_file, write_json_atomic, write_text_atomic
from voxella.model import LatentDiffusion, build_model
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.model import Recipe
from voxella.stages.record import versions

__all__ = ["FACTS", "ModelFacts", "load_facts", "load_model", "save_model"]

_WEIGHTS, _CONDITIONS, _RECIPE, FACTS = (
    "model.safetensors",
    "conditions.safetensors",
    "recipe.yaml",
    "model.json",
)


@dataclass(frozen=True)
class ModelFacts:
    """``model.json``: what the weights alone do not say.

    Attributes:
        latent_scale: Factor on latents, 1/std over the training set.
        step: Optimizer steps trained.
        averaged: Whether the weights are the moving average.
        classes: Class names in the order of the class vector.
        vectors: Names of the vectors, in the order of joining.
        spacing_mm: ``{"min": [...], "max": [...]}`` over the training cases; voxel sizes beyond
            were never seen.
        text: Width and encoder fingerprint of the features trained on, or None.
        autoencoder_fingerprint: Of the autoencoder whose latents were learnt.
        weights_sha256: Hash of ``model.safetensors``.
        versions: Packages at export.
    """

    latent_scale: float
    step: int
    averaged: bool
    classes: list[str]
    vectors: list[str]
    spacing_mm: dict[str, list[float]] | None
    text: dict[str, Any] | None
    autoencoder_fingerprint: str
    weights_sha256: str = ""
    versions: dict[str, str] = field(default_factory=versions)


def save_model(
    folder: Path,
    state: dict[str, Tensor],
    recipe: Recipe,
    facts: ModelFacts,
    null_text: Tensor | None,
) -> Path:
    """Write the folder; ``model.json`` comes last, so its presence means the folder is whole.

    Args:
        folder: ``RUN/model``.
        state: The whole state dict, on the CPU.
        recipe: The resolved recipe.
        facts: All but ``weights_sha256``, which is measured here.
        null_text: ``(1, L, F)`` features of the empty report, or None.
    """
    (folder / FACTS).unlink(missing_ok=True)
    with atomic_path(folder / _WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    with atomic_path(folder / _CONDITIONS) as temporary:
        save_file({} if null_text is None else {"null_text": null_text.contiguous()}, temporary)
    write_text_atomic(folder / _RECIPE, dump_recipe(recipe))
    measured = asdict(facts) | {"weights_sha256": sha256_file(folder / _WEIGHTS)}
    write_json_atomic(folder / FACTS, measured)
    return folder


def load_facts(folder: Path) -> ModelFacts:
    """Read ``model.json``.

    Raises:
        UserError: When the folder is not a whole exported model.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        raise UserError(
            f"{folder} is not an exported model: {FACTS} is missing",
            remedy="voxella train RECIPE writes RUN/model when it ends",
        )
    return ModelFacts(**json.loads(path.read_text(encoding="utf-8")))


def load_model(folder: Path | str) -> LatentDiffusion:
    """Load an exported model, in evaluation mode, on the CPU.

    Needs neither DeepSpeed nor anything else of the run.

    Raises:
        UserError: When the folder is incomplete, or its weights are not those of its recipe.
    """
    folder = Path(folder)
    facts = load_facts(folder)
    model = build_model(load_recipe(folder / _RECIPE))
    if sha256_file(folder / _WEIGHTS) != facts.weights_sha256:
        raise UserError(
            f"{folder / _WEIGHTS} is not the file that was exported: its hash differs",
            remedy="copy the whole folder again, or train again",
        )
    missing, unexpected = model.load_state_dict(load_file(folder / _WEIGHTS), strict=False)
    if missing or unexpected:
        raise UserError(
            f"{folder}: the weights do not fit the recipe ({len(missing)} missing, "
            f"{len(unexpected)} unexpected, first {[*missing, *unexpected][0]})",
            remedy="load it with the plugin versions named in model.json",
        )
    model.latent_scale = facts.latent_scale
    null_text = load_file(folder / _CONDITIONS).get("null_text")
    model.null_text = None if null_text is None else null_text.to(torch.float32)
    return model.eval()
