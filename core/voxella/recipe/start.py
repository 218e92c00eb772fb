"""Blocks of a training that starts from weights: what is taken, and what of it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, field_validator

from voxella.errors import UserError
from voxella.plugins.component import Component
from voxella.plugins.registry import build, builder
from voxella.plugins.released import Source
from voxella.recipe.block import Block, Width
from voxella.wording import shown_path

__all__ = [
    "OWN",
    "Init",
    "Lora",
    "RateGroup",
    "autoencoder_weights",
    "check_init",
    "lora_problems",
    "started",
]

Part = Literal["backbone", "conditioner", "autoencoder"]
Pattern = Annotated[str, Field(min_length=1)]
OWN = "voxella"
_Block = TypeVar("_Block", bound=Component)


class RateGroup(Block):
    """Parameters with a learning rate of their own."""

    match: Pattern = Field(
        description="of parameters' names: a part (conditioner), or a pattern (backbone.*.attn2.*)"
    )
    lr: float = Field(gt=0)


class Init(Block):
    """Weights that training starts from, and what of the model stays as it is."""

    path: Path | None = Field(
        None,
        alias="from",
        description="a model folder (RUN/model), or a file of the source; None: drawn at random",
    )
    source: str = Field(OWN, description="whose names the file has: voxella, or a plugin `sources`")
    parts: list[Part] = Field(["backbone", "conditioner"], description="what is taken from it")
    licence: str | None = Field(
        None,
        min_length=1,
        # Left out where there is none: recipes and hashes from before are those without it.
        exclude_if=lambda licence: licence is None,
        description="under which the file was given; asked for where its source's limits use, and "
        "kept in the model's config.json and card",
    )
    missing: Literal["refuse", "new"] = Field(
        "refuse",
        description="what the file lacks: refuse; new: it starts at random, and where the backbone "
        "would read it at zero, so that the backbone predicts what it did",
    )
    freeze: list[Pattern] = Field(
        default_factory=list,
        description="parameters that stay as they are: parts (backbone) or patterns of names",
    )

    @field_validator("parts")
    @classmethod
    def _some_part(cls, parts: list[str]) -> list[str]:
        if not parts or len(set(parts)) != len(parts):
            raise ValueError("expected: some of backbone, conditioner, autoencoder, each once")
        return parts


class Lora(Block):
    """Low-rank adapters on linear layers of the backbone (Hu et al. 2022, arXiv:2106.09685)."""

    rank: Width = Field(8, description="of each adapter's two matrices")
    alpha: float | None = Field(None, gt=0, description="they act times alpha / rank; None: rank")
    targets: list[Pattern] = Field(
        default_factory=list,
        description="last parts of layers' names; none: the attention's projections",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="of the adapters' inputs, in training")
    export: Literal["merged", "apart"] = Field(
        "merged",
        description="merged: a model like any other; apart: what was trained alone, a few MB, put "
        "on the weights of init.from when it is loaded",
    )


def lora_problems(
    lora: Lora | None, init: Init | None, weights: object
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Adapters are put on trained weights, which a model kept apart must be able to name.

    Args:
        lora: The recipe's block.
        init: The recipe's block.
        weights: Of the backbone's own argument of that name; None: it has none.
    """
    named = init is not None and init.path is not None and "backbone" in init.parts
    if lora is None or named or (weights is not None and lora.export == "merged"):
        return
    yield ("lora",), "adapters are of a trained backbone; expected: init: {from: MODEL or FILE}"


def autoencoder_weights(init: Init | None) -> Path | None:
    """Return the file that gives the autoencoder its weights; None where ``init`` gives it none."""
    if init is None or init.path is None or "autoencoder" not in init.parts:
        return None
    inside = init.path / "autoencoder" / "model.safetensors"
    return inside if init.source == OWN and init.path.is_dir() else init.path


def started(init: Init | None, autoencoder: _Block) -> _Block:
    """Return the autoencoder's block with the weights that ``init`` gives it.

    They are what its training starts from, or, where it is not trained, what it is frozen with.

    Raises:
        UserError: It takes no weights, or is given those of another file.
    """
    file = autoencoder_weights(init)
    if file is None:
        return autoencoder
    without = "--set 'init.parts=[backbone, conditioner]'"
    if "weights" not in signature(builder("autoencoders", autoencoder.name)).parameters:
        raise UserError(
            f"init.parts: received autoencoder, and {autoencoder.name} takes no weights",
            remedy=without,
        )
    named = autoencoder.arguments.get("weights")
    if named is not None and Path(named) != file:
        raise UserError(
            f"init.parts: received autoencoder, whose weights are then {shown_path(file)}; "
            f"autoencoder.weights names {shown_path(named)}",
            expected="one of the two",
            remedy=f"--set autoencoder.weights=null, or {without}",
        )
    return autoencoder.model_copy(update={"weights": file})


def check_init(init: Init) -> None:
    """Refuse weights to start from that are not there, before anything else is done.

    Raises:
        UserError: The file does not exist, a folder is no model's or has no autoencoder that is
            asked for, there is no such source, or its licence limits use and was not named.
    """
    if init.source != OWN:
        source: Source = build("sources", Component(name=init.source))
        if source.licence is not None and not (init.licence and init.licence.strip()):
            raise UserError(
                f"init.source: what {init.source} reads is not free for every use: "
                f"{source.licence}",
                expected="init.licence, under which you have the file; it is kept in the model's "
                "config.json and card",
                remedy=f"--set 'init.licence=\"{source.licence}\"'",
            )
    if init.path is None:
        return
    remedy = "name an existing file or model folder, or start from nothing: --set init.from=null"
    if not init.path.exists():
        shown = shown_path(init.path)
        raise UserError(f"init.from: training starts from {shown}, which is absent", remedy=remedy)
    facts = ("config.json", "model.json")  # the second is its name of before
    known = any((init.path / name).is_file() for name in facts)
    if init.source == OWN and init.path.is_dir() and not known:
        raise UserError(
            f"init.from: {shown_path(init.path)} is no exported model: it has no config.json",
            expected="RUN/model, as voxella train writes it; for a file of another release: "
            "init.source",
            remedy=remedy,
        )
    file = autoencoder_weights(init)
    if file is not None and not file.exists():
        raise UserError(
            f"init.parts: {shown_path(init.path)} holds no autoencoder: it was not trained there",
            expected="the file that its recipe.yaml names, under autoencoder.weights",
            remedy="--set 'init.parts=[backbone, conditioner]' --set autoencoder.weights=PATH",
        )
