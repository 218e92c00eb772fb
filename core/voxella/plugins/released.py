"""Networks of other releases: what a source reads out of a file, under our parameter names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PARTS", "Released", "Source"]

# What a file may hold, and what it is, one line each.
PARTS: dict[str, str] = {
    "backbone": "the denoiser",
    "conditioner": "what turns report features and labels into context, vectors and logits",
    "autoencoder": "images to latents and back",
    "text_encoder": "reports to token features",
    "classifier": "a downstream classifier",
    "features": "a network whose features are compared, for distances",
}


@dataclass(frozen=True)
class Released:
    """What a file of another release holds.

    Attributes:
        parts: ``{part: {name: tensor}}``: each part's state dict under the parameter names of our
            network, on the CPU, in the file's dtypes. What the file holds beside the part's own
            tensors is in it as well, so that a comparison shows it. A part is one of ``PARTS``.
        latent_scale: Factor on latents that the denoiser was trained with; a list: by channel.
            None where the file does not tell.
        null_text: ``(1, L, F)``, features of the empty report; None where the file has none.
        step: Optimizer steps trained; 0 where the file does not tell.
        remarks: Lines for the user: what was left out of the file, and why.
    """

    parts: Mapping[str, Mapping[str, Tensor]]
    latent_scale: float | list[float] | None = None
    null_text: Tensor | None = None
    step: int = 0
    remarks: Sequence[str] = ()


@runtime_checkable
class Source(Protocol):
    """Reads released networks.

    Attributes:
        parts: The parts that its files may hold, of ``PARTS``.
        licence: One plain sentence where the licence of what it reads limits the uses, such as
            "research only"; None where it does not.
    """

    parts: frozenset[str]
    licence: str | None

    def read(self, path: Path) -> Released:
        """Read a file, or a folder, without running any code that it may hold.

        Raises:
            UserError: There is no such file, it cannot be read, or holds none of ``parts``.
        """
        ...
