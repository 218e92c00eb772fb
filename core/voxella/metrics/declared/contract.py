"""What a metric is, and what it is given.

A metric declares its numbers and what they are taken from; the evaluation makes ready what any of
the chosen metrics needs, once, and hands it over. Asking for what was not declared is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from voxella.case import Case
from voxella.metrics.declared.number import Number

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from voxella.metrics.declared.measured import Measured
    from voxella.metrics.predictions import ClassPredictions, Predictions
    from voxella.metrics.vectors import VectorSet

__all__ = ["NEEDS", "Evaluated", "Evidence", "Features", "Metric", "Predicted"]

# What a metric may need. A word that is not here cannot be declared.
NEEDS: dict[str, str] = {
    "features": "features of volumes; of pictures and single slices those of their first network",
    "features_2d": "features of pictures, images of two axes",
    "features_3d": "features of volumes",
    "features_2d_sagittal": "features of every sagittal slice",
    "features_2d_coronal": "features of every coronal slice",
    "features_2d_axial": "features of every axial slice",
    "images": "the images themselves, real and synthetic",
    "histograms": "foreground voxels by intensity of each image",
    "labels": "labels of the cases",
    "reports": "texts of the reports that the volumes were made from",
    "latents": "latents and small images of all cases, training ones among them",
    "reconstructions": "real images after the autoencoder",
    "text_head": "what the model says of reports",
    "probe": "what a probe sees in images",
    "model": "the run's own model, for further volumes",
    "classifier": "what the classifier of `evaluate.classifier` says of images",
    "predictions": "what a trained classifier says of test cases: measured by `voxella classify`",
}

_E = TypeVar("_E", contravariant=True)


class Evaluated(Protocol):
    """One case that takes part."""

    @property
    def id(self) -> str:
        """Return the case's id."""

    @property
    def group(self) -> str:
        """Return whose it is (patient, slide); of a synthetic case, that whose text made it."""

    @property
    def case(self) -> Case:
        """Return the case, as its manifest has it."""


@dataclass(frozen=True, eq=False)
class Features:
    """The vectors of one network.

    Attributes:
        network: Its name, which a number of it has to bear.
        comparable_with_paper: Whether it is the paper's.
        real: One row a case, or one a slice.
        synthetic: The same.
    """

    network: str
    comparable_with_paper: bool
    real: VectorSet
    synthetic: VectorSet


class Evidence(Protocol):
    """What `voxella evaluate` gives a metric, on the first process.

    Attributes:
        seed: Of the recipe; with the name of a number it decides all draws.
        level: Coverage of intervals.
        replicates: Resamples of an interval.
        halves: Random halves of the real cases of a baseline.
        split: Of the real cases compared with.
        paired: Synthetic and real cases have the same patients.
        real: Real cases of the split.
        synthetic: Synthetic cases that are compared with them.
        floor_size: Patients of either half of a baseline; None: half of all.
        device: Where to compute.
        facts: What else ``metrics.json`` is to hold, by key, JSON-ready; no text of a report.
    """

    seed: int
    level: float
    replicates: int
    halves: int
    split: str
    paired: bool
    real: Sequence[Evaluated]
    synthetic: Sequence[Evaluated]
    floor_size: int | None
    device: torch.device
    facts: dict[str, Any]

    def features(self, kind: str = "") -> Features | None:
        """Return the features ``3d``, ``2d_axial``...; None where these images have none.

        Needs ``features_KIND``; without a kind, ``features``.

        Raises:
            UserError: They hold NaN.
        """

    def image(self, case: Evaluated) -> Tensor:
        """Return a case's images ``(C, R, A, S)`` in [0, 1]. Needs ``images``."""

    def reconstruction(self, case: Evaluated) -> Tensor:
        """Return a real case's images after the autoencoder. Needs ``reconstructions``."""

    def report(self, case: Evaluated) -> str | None:
        """Return the text of the report behind a case; None without one. Needs ``reports``.

        It is patient data: never in a number's name, a note or a message.
        """


@dataclass(frozen=True)
class Predicted:
    """What `voxella classify` gives a metric of ``predictions``: one training's test cases.

    Attributes:
        test: What was predicted of them; of more than two classes without a positive one, by class.
        seed: Of the recipe.
        name: Of these predictions: with ``seed`` it decides all draws.
        level: Coverage of intervals.
        replicates: Resamples of an interval.
    """

    test: Predictions | ClassPredictions
    seed: int
    name: str
    level: float
    replicates: int


@runtime_checkable
class Metric(Protocol[_E]):
    """One or more numbers of a synthetic data set, or of a trained classifier.

    It may have a method ``share(evidence)`` beside these: every process calls it before
    :meth:`measure`, so that long work can be shared between them.

    Attributes:
        numbers: Declarations of all numbers that it may return.
        needs: Words of :data:`NEEDS`; with ``predictions`` it is given a :class:`Predicted`, else
            an :class:`Evidence`.
    """

    numbers: Sequence[Number]
    needs: frozenset[str]

    def measure(self, evidence: _E) -> Mapping[str, Measured]:
        """Return numbers by key, with interval, N and baseline; without a value, with the reason.

        A key that makes no sense for these cases may be left out.

        Raises:
            NoNumberError: There is nothing to measure: the message stands in place of all numbers.
        """
        ...
