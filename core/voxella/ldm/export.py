"""The exported model folder: weights and the facts that sampling needs, without DeepSpeed.

``model.safetensors`` (averaged weights where there is an average), ``conditions.safetensors`` (the
empty report's features), ``recipe.yaml`` (resolved) and ``model.json``. No report text, no case id.

A stage's numbers for the observers: the same values as in its ``metrics.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typing_extensions import TypedDict

from voxella.errors import UserError
from voxella.files import atomic_path, sha256_file, write_json_atomic, write_text_atomic
from voxella.ldm.build import LatentDiffusion, build_model
from voxella.ldm.read_start import with_base
from voxella.observers.dispatch import ObserverSet
from voxella.provenance import versions
from voxella.recipe.load import load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.folders import Folders
from voxella.workspace.state import StateFile, print_once

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

_WEIGHTS, _CONDITIONS, _RECIPE, FACTS = (
    "model.safetensors",
    "conditions.safetensors",
    "recipe.yaml",
    "model.json",
)
# Left out where there is nothing to tell: models from before are those without them.
_IF_ANY = frozenset({"base_sha256", "origin", "licences"})
_AGAIN = "rm {path}, then voxella train RECIPE with the same --out: it exports the model again"


class _Facts(TypedDict):
    latent_scale: float | list[float]
    step: int
    averaged: bool
    classes: list[str]
    vectors: list[str]
    spacing_mm: dict[str, list[float]] | None
    text: dict[str, Any] | None
    autoencoder_fingerprint: str
    weights_sha256: str
    files: NotRequired[dict[str, str]]
    conditions: NotRequired[dict[str, dict[str, Any]]]
    base_sha256: NotRequired[str]
    origin: NotRequired[dict[str, str]]
    licences: NotRequired[dict[str, str]]
    versions: dict[str, str]


@dataclass(frozen=True)
class ModelFacts:
    """``model.json``: what the weights alone do not say.

    Attributes:
        latent_scale: Factor on latents, 1/std over the training set; a list: by channel.
        step: Optimizer steps trained.
        averaged: Whether the weights are the moving average.
        classes: Class names in the order of the class vector.
        vectors: Names of the vectors, in the order of joining.
        spacing_mm: ``{"min": [...], "max": [...]}`` over the training cases; voxel sizes beyond
            were never seen.
        text: Width and encoder fingerprint of the features trained on, or None; the fingerprint is
            empty where it is not known.
        autoencoder_fingerprint: Of the autoencoder whose latents were learnt; empty: not known.
        weights_sha256: Hash of ``model.safetensors``.
        conditions: What it was conditioned on, as :func:`voxella.ldm.conditions.seen` returns it.
        base_sha256: Hash of the weights of ``init.from``, where only what was trained on them is
            here (``lora.export: apart``); "" where all is.
        origin: ``{source, file, sha256}`` of a converted model; empty where it was trained.
        licences: ``{part: text}`` of parts whose licence limits uses.
        files: Hashes of the other files.
        versions: Packages at export.
    """

    latent_scale: float | list[float]
    step: int
    averaged: bool
    classes: list[str]
    vectors: list[str]
    spacing_mm: dict[str, list[float]] | None
    text: dict[str, Any] | None
    autoencoder_fingerprint: str
    conditions: dict[str, dict[str, Any]] = field(default_factory=dict)
    base_sha256: str = ""
    origin: dict[str, str] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    weights_sha256: str = ""
    files: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)


_FORM: StateFile[dict[str, Any]] = StateFile(_Facts, _AGAIN)


def save_model(
    folder: Path,
    state: dict[str, Tensor],
    recipe: str,
    facts: ModelFacts,
    null_text: Tensor | None,
) -> Path:
    """Write the folder; ``model.json`` comes last, so its presence means the folder is whole.

    Args:
        folder: ``RUN/model``.
        state: The whole state dict, on the CPU.
        recipe: The resolved recipe, as YAML.
        facts: All but ``weights_sha256``, which is measured here.
        null_text: ``(1, L, F)`` features of the empty report, or None.
    """
    (folder / FACTS).unlink(missing_ok=True)
    with atomic_path(folder / _WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    with atomic_path(folder / _CONDITIONS) as temporary:
        save_file({} if null_text is None else {"null_text": null_text.contiguous()}, temporary)
    write_text_atomic(folder / _RECIPE, recipe)
    files = {name: sha256_file(folder / name) for name in (_CONDITIONS, _RECIPE)}
    measured = {"weights_sha256": sha256_file(folder / _WEIGHTS), "files": files}
    told = {key: value for key, value in asdict(facts).items() if value or key not in _IF_ANY}
    write_json_atomic(folder / FACTS, told | measured)
    return folder


def load_facts(folder: Path) -> ModelFacts:
    """Read ``model.json``.

    Raises:
        UserError: When the folder is not a whole exported model.
    """
    found = _FORM.read(Path(folder) / FACTS)
    if found is None:
        raise UserError(
            f"{folder} is not an exported model: {FACTS} is missing",
            remedy="voxella train RECIPE writes RUN/model when it ends",
        )
    return ModelFacts(**found)


def facts_sha256(folder: Path) -> str:
    """Return the hash of ``model.json``, for the record of the training that exported it."""
    return sha256_file(folder / FACTS)


def is_whole(folder: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a model is exported, and its small files are as they were written.

    Args:
        folder: ``RUN/model``.
        record: What the training's record says of it.
    """
    found = _FORM.read_or_remake(folder / FACTS)
    if found is None:
        return False
    known = record.get("model_json_sha256")
    files = {**found.get("files", {}), **({} if known is None else {FACTS: known})}
    damaged = [name for name, sha256 in files.items() if not _has(folder / name, sha256)]
    for name in damaged:
        print_once(f"{folder / name} is damaged; the model is exported again")
    return not damaged and (folder / _WEIGHTS).is_file()


def _has(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_file(path) == sha256


def load_model(folder: Path | str) -> LatentDiffusion:
    """Load an exported model, in evaluation mode, on the CPU.

    Needs neither DeepSpeed nor anything else of the run.

    Raises:
        UserError: When the folder is incomplete, or its weights are not those of its recipe.
    """
    folder = Path(folder)
    facts = load_facts(folder)
    for name, sha256 in {**facts.files, _WEIGHTS: facts.weights_sha256}.items():
        if not _has(folder / name, sha256):
            raise UserError(
                f"{folder / name} is not the file that was exported: its hash differs, or it is "
                "gone",
                remedy="copy the whole folder again; or "
                + _AGAIN.format(path=folder / FACTS, folder=folder),
            )
    recipe = load_recipe(folder / _RECIPE)
    model = build_model(recipe, to_be_trained=False)
    state = load_file(folder / _WEIGHTS)
    if facts.base_sha256 and recipe.lora is not None:
        state = with_base(model, recipe.init, recipe.lora, state, facts.base_sha256)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise UserError(
            f"{folder}: the weights do not fit the recipe ({len(missing)} missing, "
            f"{len(unexpected)} unexpected, first {[*missing, *unexpected][0]})",
            remedy="load it with the plugin versions named in model.json",
        )
    scale = facts.latent_scale
    model.latent_scale = tuple(scale) if isinstance(scale, list) else scale
    null_text = load_file(folder / _CONDITIONS).get("null_text")
    model.null_text = None if null_text is None else null_text.to(torch.float32)
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
