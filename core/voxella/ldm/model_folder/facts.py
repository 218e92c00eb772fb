"""``config.json`` of a model folder: what the weights alone do not say."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from voxella.errors import UserError
from voxella.hashing import sha256_file
from voxella.provenance import versions
from voxella.workspace.folders import MODEL_FACTS, model_facts_path
from voxella.workspace.state import StateFile

__all__ = ["AGAIN", "FORM", "ModelFacts", "facts_sha256", "is_model", "load_facts"]

# Left out where there is nothing to tell.
_IF_ANY = frozenset({"base_sha256", "origin", "licences"})
AGAIN = "rm {path}, then voxella train RECIPE with the same --out: it exports the model again"


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
    data: NotRequired[dict[str, dict[str, Any]]]
    base_sha256: NotRequired[str]
    origin: NotRequired[dict[str, str]]
    licences: NotRequired[dict[str, str]]
    versions: dict[str, str]


@dataclass(frozen=True)
class ModelFacts:
    """``config.json``: what the weights alone do not say.

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
        data: Counts of the data by split, as
            :func:`voxella.ldm.model_folder.data_counts.counted` returns them.
        base_sha256: Hash of the weights of ``init.from``, where only what was trained on them is
            here (``lora.export: apart``); "" where all is.
        origin: ``{source, file, sha256}`` of a converted model; empty where it was trained.
        licences: Of the model's parts, by name (``autoencoder``, ``text_encoder``, ...), in words.
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
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    base_sha256: str = ""
    origin: dict[str, str] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    weights_sha256: str = ""
    files: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)

    def averaged_over(self, step: int) -> ModelFacts:
        """Return them for the same model with weights averaged up to a step."""
        return replace(self, step=step, averaged=True, versions=versions())

    def told(self) -> dict[str, Any]:
        """Return what is written of them."""
        return {key: value for key, value in asdict(self).items() if value or key not in _IF_ANY}


FORM: StateFile[dict[str, Any]] = StateFile(_Facts, AGAIN)


def is_model(folder: Path) -> bool:
    """Return whether a folder holds an exported model."""
    return model_facts_path(folder).is_file()


def load_facts(folder: Path) -> ModelFacts:
    """Read ``config.json``; ``model.json``, its name until version 0.1, is read as well.

    Raises:
        UserError: When the folder is not a whole exported model.
    """
    found = FORM.read(model_facts_path(Path(folder)))
    if found is None:
        raise UserError(
            f"{folder} is not an exported model: {MODEL_FACTS} is missing",
            remedy="voxella train RECIPE writes RUN/model when it ends",
        )
    return ModelFacts(**found)


def facts_sha256(folder: Path) -> str:
    """Return the hash of ``config.json``, for the record of the training that exported it."""
    return sha256_file(model_facts_path(folder))
