"""What the engine expects of the objects that plugins build."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from voxella.case import Case, Manifest
from voxella.plugins.exporting import Exported, Exporter, ModelExporter
from voxella.plugins.released import Released, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from voxella.conditioning import Conditioning
    from voxella.detection import Counterfactual, Detection, Facts

__all__ = [
    "Autoencoder",
    "Backbone",
    "Classifier",
    "Conditioner",
    "Exported",
    "Exporter",
    "Importer",
    "ModelExporter",
    "Probe",
    "Released",
    "Report",
    "Source",
    "Summariser",
    "TextEncoder",
    "counterfactuals_of",
    "training_losses",
    "unknown_counts",
]


@runtime_checkable
class Conditioner(Protocol):
    """A ``torch.nn.Module`` that turns what is known of cases into a Conditioning.

    Attributes:
        context_dim: Width of the context tokens, or None when there is no context.
        vector_sizes: ``{name: K}`` of the vectors it returns, unscaled.
        needs: Names of what it reads: ``text``, ``label``, ``spacing``, and conditions of the
            recipe, such as ``age``. It is called with these, by name, and with no other.
    """

    context_dim: int | None
    vector_sizes: Mapping[str, int]
    needs: frozenset[str]

    def __call__(self, *, timesteps: Tensor, **inputs: Tensor | None) -> Conditioning:
        """Condition a batch; called with what ``needs`` names.

        - ``timesteps``: whatever it needs. ``(B,)``, in steps of the schedule.
        - ``text_features`` and ``text_mask``: where ``needs`` names text. ``(B, L, F)`` in the text
          cache's dtype, bfloat16 unless the recipe says otherwise: cast them to your parameters'
          dtype. ``(B, L)`` bool, True where a token is real; None when all are.
        - ``label``: ``(B, num_classes)`` one-hot; zeros mean that it is not known.
        - ``spacing``: ``(B, n)``, edges of a voxel in mm.
        - a condition, by its name: ``(B, width)``. Of a number two, its place in its range from -1
          to 1 and 1 for "known"; of a category one per value, one-hot. Zeros: not known.
        """
        ...


@runtime_checkable
class Backbone(Protocol):
    """A ``torch.nn.Module`` that predicts what the recipe's prediction type names."""

    def __call__(self, x: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Map ``(B, C, *spatial)`` at ``timesteps`` ``(B,)`` to ``(B, C, *spatial)``."""
        ...

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Trade compute for memory in the backward pass; never changes a value."""
        ...


@runtime_checkable
class Autoencoder(Protocol):
    """A ``torch.nn.Module`` between images in [0, 1] and latents.

    It may have a method ``training_losses(images, mean, reconstruction)`` beside these, which
    returns scalars by name, averaged over the batch and weighed: what it is trained on besides
    the engine's losses, such as the loss of a codebook. An adaptive adversary also needs a method
    ``last_layer_gradients()``, see ``voxella.autoencoder.adaptive``.

    Attributes:
        factor: Voxels of the image per voxel of the latent, along each axis.
        latent_channels: Channels of the latent.
    """

    factor: int
    latent_channels: int

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``(B, C, *spatial)`` to mean and log sigma, each ``(B, L, *spatial / factor)``.

        Log sigma is None where the latent is no distribution (a codebook, a plain autoencoder).
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Map ``(B, L, *spatial)`` to images ``(B, C, *spatial * factor)``."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Reports to token features. Holds weights; built only in the encode stage.

    It may have a method ``unknown_counts(texts)`` beside these, which returns how many tokens of
    each text stand for words that its vocabulary does not have; encode and check then tell.

    Attributes:
        width: Feature width F.
        fingerprint: Hash over weights, tokenizer and settings: the cache key.
    """

    width: int
    fingerprint: str

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one ``(L_i, F)`` tensor per text, at its true token length (L_i >= 1)."""
        ...

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Return each text's full token count, before any truncation."""
        ...


@dataclass(frozen=True)
class Report:
    """A whole report of a case, patient or slide; its text is patient data and not in its repr."""

    id: str
    text: str = field(repr=False)


@runtime_checkable
class Summariser(Protocol):
    """Reports to summaries of some words, one line each.

    Attributes:
        fingerprint: Changes whenever the same report gives another summary: the cache key.
        words: Words of a summary at the most; a summariser that cannot promise it aims at it.
    """

    fingerprint: str
    words: int

    def __call__(self, reports: Sequence[Report], *, variant: int = 0) -> list[str]:
        """Return one summary per report; the same for the same report and variant.

        Other variants are further summaries of the same report, made independently of each other
        as far as the summariser can.

        Raises:
            UserError: There is no summary to be had, said without a word of any report.
        """
        ...


@runtime_checkable
class Importer(Protocol):
    """Data from elsewhere to a data set folder with a manifest."""

    def __call__(self, out: Path) -> Manifest:
        """Write images, reports and the manifest under ``out`` and return the manifest."""
        ...


@runtime_checkable
class Probe(Protocol):
    """Looks at an image and tells what is in it. It travels to other processes: pickle copies it.

    A probe measures a data set whose cases name it as the source of their labels.

    It may have a method ``counterfactuals(dataset, case)`` beside these, which returns the case
    with one fact changed at a time (:class:`voxella.detection.Counterfactual`): a probe whose cases
    are drawn by a generator can draw each of them once more.

    Attributes:
        fingerprint: Changes whenever the same image gives another detection.
        spatial_dims: Numbers of spatial axes that it can look at.
    """

    fingerprint: str
    spatial_dims: Collection[int]

    def told(self, dataset: Manifest, case: Case) -> Facts | None:
        """Return what the case's report tells, or None where the probe does not know the case.

        Raises:
            UserError: What is known of the case cannot be read.
        """
        ...

    def look(self, image: NDArray[np.floating], spacing_mm: tuple[float, ...]) -> Detection:
        """Return what ``(*spatial)``, of colours ``(3, *spatial)``, in [0, 1] shows."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """A ``torch.nn.Module`` from images ``(B, C, *spatial)`` to logits ``(B, num_classes)``."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return ``(B, num_classes)`` logits."""
        ...


def training_losses(
    autoencoder: Autoencoder, images: Tensor, mean: Tensor, reconstruction: Tensor
) -> dict[str, Tensor]:
    """Return the losses that an autoencoder brings itself; none where it brings none."""
    own = getattr(autoencoder, "training_losses", None)
    return {} if own is None else dict(own(images, mean, reconstruction))


def counterfactuals_of(probe: Probe, dataset: Manifest, case: Case) -> list[Counterfactual]:
    """Return a case with one fact changed at a time; none where the probe cannot draw any."""
    own = getattr(probe, "counterfactuals", None)
    return [] if own is None else list(own(dataset, case))


def unknown_counts(encoder: TextEncoder, texts: Sequence[str]) -> list[int]:
    """Return how many tokens of each text are unknown; 0 where an encoder does not tell."""
    count = getattr(encoder, "unknown_counts", None)
    return [0] * len(texts) if count is None else [int(number) for number in count(texts)]
