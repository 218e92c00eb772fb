"""What a conversion is asked for, and what its source's licence asks in return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.machine import raise_if_machine
from voxella.plugins.contracts import Source
from voxella.weights import read_checkpoint

__all__ = ["Conversion", "read_null_text", "require_licence"]


@dataclass(frozen=True)
class Conversion:
    """One call of ``voxella convert``.

    Attributes:
        source: Name of the source plugin.
        file: What it reads.
        out: Folder to write.
        licence: What the user has named; None: nothing.
        null_text: File with the features of the empty report; None: as the source brings them.
        latent_scale: Factor on latents, or one a channel; empty: as the source brings it.
        new: Patterns of a classifier's tensors that are not taken over, such as ``fc.*``.
    """

    source: str
    file: Path
    out: Path
    licence: str | None = None
    null_text: Path | None = None
    latent_scale: Sequence[float] = ()
    new: tuple[str, ...] = ()


def require_licence(source: Source, asked: Conversion) -> None:
    """Refuse to read what only some may use until the user has named the licence.

    Raises:
        UserError: The source's licence limits uses, and none was named.
    """
    if source.licence is None or (asked.licence and asked.licence.strip()):
        return
    raise UserError(
        f"what the source {asked.source} reads is not free for every use: {source.licence}",
        expected="the licence named once; it is kept in what is written, for the model card",
        remedy=f'voxella convert {asked.source} ... --licence "{source.licence}"',
    )


def read_null_text(path: Path, width: int) -> Tensor:
    """Return the features of the empty report, ``(1, L, width)`` float32.

    Args:
        path: ``.npy``, ``.safetensors``, or written by ``torch.save``: ``(L, F)`` or ``(1, L, F)``,
            bare or the only tensor of the file, or called ``null_text``.
        width: F of the recipe.

    Raises:
        UserError: There is no such file, or it holds something else.
    """
    if path.suffix == ".npy" and path.is_file():
        try:
            found: object = torch.from_numpy(np.load(path, allow_pickle=False))
        except Exception as error:  # over a damaged file NumPy raises anything
            raise_if_machine(error, path)
            found = None
    else:
        remedy = "--null-text FILE with features of the empty report"
        found = read_checkpoint(path, what="the empty report's features", remedy=remedy)
    if isinstance(found, dict):
        tensors = [value for value in found.values() if isinstance(value, Tensor)]
        found = found.get("null_text", tensors[0] if len(tensors) == 1 else None)
    if not isinstance(found, Tensor) or found.ndim not in (2, 3) or found.shape[-1] != width:
        told = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else "no such tensor"
        raise UserError(
            f"{path} holds no features of the empty report: {told}",
            expected=f"(L, {width}) or (1, L, {width}), of text.width {width}",
        )
    return found.reshape(-1, *found.shape[-2:])[:1].to(torch.float32)
