"""Weights that training starts from, what of them stays as it is, and adapters on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxella.engine.parameters import freeze
from voxella.hashing import sha256_path
from voxella.ldm.adapters import add_adapters
from voxella.ldm.build import LatentDiffusion
from voxella.ldm.model_folder.folder import WEIGHTS
from voxella.recipe.model import Init, Lora
from voxella.recipe.start import OWN, check_init
from voxella.weights import KeyReport
from voxella.wording import listed

__all__ = ["Start", "begin", "deciding_start", "own_folder", "start_file", "start_sha256"]

_SHOWN = 6


def start_file(path: Path) -> Path:
    """Return the file of weights behind ``init.from``: of a model folder, the one inside."""
    return path / WEIGHTS if (path / WEIGHTS).is_file() else path


def own_folder(init: Init | None) -> Path | None:
    """Return the model folder of ours that training starts from; None where it is another file."""
    if init is None or init.path is None or init.source != OWN or not init.path.is_dir():
        return None
    return init.path


def start_sha256(init: Init | None) -> str | None:
    """Return the hash of what training starts from; None where it starts from nothing.

    Raises:
        UserError: It is not there, or a folder without ``model.safetensors``.
    """
    if init is None or init.path is None:
        return None
    check_init(init)
    return sha256_path(start_file(init.path))  # a folder: of a source that reads folders


def deciding_start(init: Init | None, lora: Lora | None) -> dict[str, Any]:
    """Return what of both blocks decides the trained weights, for a stage's record.

    What the file holds decides, not where it lies.
    """
    told: dict[str, Any] = {}
    if init is not None:
        told["init"] = init.model_dump(mode="json", exclude={"path", "licence"})
        told["start_sha256"] = start_sha256(init)
    if lora is not None:
        told["lora"] = lora.model_dump(mode="json", exclude={"export"})
    return told


@dataclass(frozen=True)
class Start:
    """What a file gives to a model, decided on names and shapes before the model is allocated.

    Attributes:
        path: ``init.from``.
        sha256: Hash of what is there.
        states: By part, tensors under the part's own names, each of the shape that it has there.
        reports: By part, how the file fits.
        names: Full names of the parameters that the file gives, each of the shape that it had.
        new: Full names of parameters that the file lacks.
        widened: Full names of parameters that have grown; what is new of them is zero.
        latent_scale: Factor on latents that the file was trained with; None: not known.
        licences: By part that was taken, in words; what has none is not in it.
        remarks: Lines of the source for the user.
    """

    path: Path
    sha256: str
    states: Mapping[str, Mapping[str, Tensor]]
    reports: Mapping[str, KeyReport]
    names: frozenset[str] = frozenset()
    new: frozenset[str] = frozenset()
    widened: frozenset[str] = frozenset()
    latent_scale: float | list[float] | None = None
    licences: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = field(default=())

    def lines(self) -> list[str]:
        """Return what the user is told."""
        lines = [f"init: {self.path}"]
        for part, report in self.reports.items():
            told = report.lines(f"  {part}")
            lines += told[:1] if report.fits else told
        if self.new:
            lines.append(f"  starting anew: {len(self.new)}: {listed(sorted(self.new), _SHOWN)}")
        if self.widened:
            lines.append(f"  widened by zeros: {listed(sorted(self.widened), _SHOWN)}")
        if self.latent_scale is not None:
            scale = self.latent_scale
            shown = ", ".join(f"{x:.6g}" for x in (scale if isinstance(scale, list) else [scale]))
            lines.append(f"  it was trained on latents times {shown}")
        lines += [f"  {part}: licence: {words}" for part, words in self.licences.items()]
        return [*lines, *(f"  {remark}" for remark in self.remarks)]

    def without_tensors(self) -> Start:
        """Return what is known of the file alone; a training need not hold its weights twice."""
        return replace(self, states={})

    @torch.no_grad()
    def load(self, model: LatentDiffusion) -> None:
        """Put the tensors into a model that is allocated."""
        for part, state in self.states.items():
            own = model.get_submodule(part).state_dict()
            for name, tensor in state.items():
                own[name].copy_(tensor)


def begin(
    model: LatentDiffusion,
    start: Start | None,
    init: Init | None,
    lora: Lora | None,
    *,
    seed: int,
    loads: bool,
) -> None:
    """Make a model as its training begins: weights, what is frozen, adapters.

    Args:
        model: Allocated.
        start: From :func:`voxella.ldm.read_start.read_start`.
        init: The recipe's block.
        lora: The recipe's block.
        seed: Of the adapters.
        loads: Put the weights in; not where a checkpoint brings them.

    Raises:
        UserError: A pattern means no parameter, or a target no layer.
    """
    if start is not None and loads:
        start.load(model)
    freeze(model, init.freeze if init is not None else (), more_comes=lora is not None)
    if lora is not None:
        new = start.new if start is not None else frozenset[str]()
        whole = {n.removeprefix("backbone.") for n in new if n.startswith("backbone.")}
        add_adapters(model.get_submodule("backbone"), lora, seed=seed, whole=whole)
