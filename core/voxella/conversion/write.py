"""What a conversion leaves beside a model: weights files, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.files import write_json_atomic
from voxella.hashing import sha256_file
from voxella.ldm.model_folder.licences import RELEASED
from voxella.progress import print_line
from voxella.provenance import versions
from voxella.recipe.autoencoder import AutoencoderBlock
from voxella.recipe.evaluation import Evaluate
from voxella.weights import write_state_dict

__all__ = ["Origin", "fingerprint_of", "with_weights", "write_parts"]

# A text encoder is a folder of transformers' form, in which the weights have this name.
_FILES = {"text_encoder": "text_encoder/model.safetensors"}
# What a recipe names the file by.
_KEYS = {
    "conditioner": "conditioner.weights",
    "autoencoder": "autoencoder.weights",
    "text_encoder": "text.encoder.path",
    "classifier": "classify.classifier.weights",
}


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        source: The source plugin.
        file: Name of the file, or of the folder.
        sha256: Its hash.
    """

    source: str
    file: str
    sha256: str

    def as_json(self) -> dict[str, str]:
        """Return it as ``model.json`` and ``released.json`` have it."""
        return asdict(self)


def write_parts(
    out: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    origin: Origin,
    licences: Mapping[str, str],
) -> dict[str, Path]:
    """Write each part's weights file, then ``released.json``; return the files by part."""
    written = {part: out / _FILES.get(part, f"{part}.safetensors") for part in parts}
    for part, state in parts.items():
        # safetensors refuses tensors that share memory, as views of one tensor do.
        write_state_dict(written[part], {name: tensor.clone() for name, tensor in state.items()})
    facts = {
        **origin.as_json(),
        "licences": {part: licences[part] for part in parts if part in licences},
        "files": {str(path.relative_to(out)): sha256_file(path) for path in written.values()},
        "versions": versions(),
    }
    write_json_atomic(out / RELEASED, facts)
    keys = dict(_KEYS)
    if origin.source in Evaluate.model_fields:  # a feature network's key is its release's name
        keys["features"] = f"evaluate.{origin.source}"
    for part, path in written.items():
        if part in keys:
            named = path.parent if part in _FILES else path
            print_line(f"{part}: a recipe names it by {keys[part]}={named}")
        if part == "text_encoder":
            print_line(
                "text_encoder: copy config.json and the tokenizer's files of its release there"
            )
    return written


def with_weights(autoencoder: AutoencoderBlock, path: Path) -> dict[str, Any]:
    """Return the blocks of a recipe whose frozen autoencoder is the one in ``path``."""
    block = autoencoder.model_copy(update={"weights": path.absolute()})
    return {"autoencoder": block, "autoencoder_training": None}


def fingerprint_of(plan: AutoencoderPlan) -> str:
    """Return the fingerprint of the frozen autoencoder that a recipe names; empty where none is.

    A released denoiser does not say whose latents it has learnt: the recipe is believed.
    """
    weights = plan.component.arguments.get("weights")
    if plan.trained or weights is None or not Path(weights).is_file():
        print_line(
            "the autoencoder is not there, so sampling will not check that it is this one: "
            "--set autoencoder.weights=FILE names it"
        )
        return ""
    return load_autoencoder(plan).fingerprint
