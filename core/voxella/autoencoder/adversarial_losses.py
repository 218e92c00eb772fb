"""What a discriminator's logits cost, it and the network that it judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from torch.nn import functional

__all__ = ["ADVERSARIAL_LOSSES", "AdversarialLosses"]

# MAISI's discriminator is judged through a leaky ReLU, as MONAI's ``PatchAdversarialLoss`` does.
_SLOPE = 0.05


@dataclass(frozen=True)
class AdversarialLosses:
    """Three scalars of logits, and how images are shown to the discriminator.

    Attributes:
        generator: Of reconstructions: how far they are from being taken for originals.
        real: Of originals: how far the discriminator is from knowing them.
        fake: Of reconstructions, likewise.
        seen: Maps images in [0, 1] to what the discriminator is given.
    """

    generator: Callable[[Tensor], Tensor]
    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    seen: Callable[[Tensor], Tensor]


def _squares(logits: Tensor, *, target: float) -> Tensor:
    return (functional.leaky_relu(logits, _SLOPE) - target).square().mean()


def _mean_of_negative(logits: Tensor) -> Tensor:
    return -logits.mean()


def _hinge(logits: Tensor, *, sign: float) -> Tensor:
    return functional.relu(1.0 - sign * logits).mean()


def _unchanged(images: Tensor) -> Tensor:
    return images


def _around_zero(images: Tensor) -> Tensor:
    return 2.0 * images - 1.0


ADVERSARIAL_LOSSES: Mapping[str, AdversarialLosses] = {
    # Mao et al. 2017, arXiv:1611.04076.
    "least_squares": AdversarialLosses(
        generator=partial(_squares, target=1.0),
        real=partial(_squares, target=1.0),
        fake=partial(_squares, target=0.0),
        seen=_unchanged,
    ),
    # Lim and Ye 2017, arXiv:1705.02894; the images of latent diffusion lie in [-1, 1].
    "hinge": AdversarialLosses(
        generator=_mean_of_negative,
        real=partial(_hinge, sign=1.0),
        fake=partial(_hinge, sign=-1.0),
        seen=_around_zero,
    ),
}
