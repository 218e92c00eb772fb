"""How heavy an adversary weighs, from gradients at the last layer of the decoder.

Esser et al. 2021 (arXiv:2012.09841), equation 7: the adversary's gradient is made as long as that
of the other losses where both reach all of the decoder, so that neither drowns the other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor

from voxella.errors import UserError
from voxella.plugins.contracts import Autoencoder

__all__ = ["adaptive_weight", "last_layer", "require_last_layer"]

# As released: the equation itself has 1e-6, and no largest value.
_ADDED = 1e-4
_LARGEST = 1e4
# An autoencoder's method; see last_layer.
_METHOD = "last_layer_gradients"

GradientAt = Callable[[Tensor], Tensor]


def last_layer(autoencoder: Autoencoder) -> AbstractContextManager[GradientAt]:
    """Return a context that watches the last layer of a decoder while it decodes.

    It is the autoencoder's own method ``last_layer_gradients()``. What it yields maps a gradient at
    the images that were decoded last to the gradient at the weight of the last layer.
    """
    watch = getattr(autoencoder, _METHOD)
    return cast("AbstractContextManager[GradientAt]", watch())


def require_last_layer(name: str, autoencoder: Autoencoder) -> None:
    """Refuse an autoencoder that does not tell of its last layer.

    Args:
        name: The plugin's.
        autoencoder: As built.

    Raises:
        UserError: It has no such method.
    """
    if not callable(getattr(autoencoder, _METHOD, None)):
        raise UserError(
            f"autoencoder_training.adversarial.adaptive: the autoencoder {name} does not tell the "
            "gradients of its last layer",
            expected=f"one with the method {_METHOD}(), such as vq and kl2d",
            remedy="--set autoencoder_training.adversarial.adaptive=false, with a smaller weight",
        )


def adaptive_weight(
    others: Tensor, adversarial: Tensor, images: Tensor, gradient_at: GradientAt
) -> Tensor:
    """Return ``|gradient of others| / (|gradient of adversarial| + 1e-4)``, at most 1e4.

    Gradients are taken at the images and carried to the last layer from there. No pass goes back
    through the autoencoder: under ZeRO each such pass is a meeting of all processes.

    Args:
        others: The sum of all other losses of these images, a scalar.
        adversarial: The adversary's loss of them, a scalar, without its weight.
        images: ``(B, C, *spatial)``, as decoded.
        gradient_at: From :func:`last_layer`.

    Returns:
        A scalar without a gradient, float32.
    """
    norms: list[Tensor] = []
    for loss in (others, adversarial):
        (gradient,) = torch.autograd.grad(loss, images, retain_graph=True)
        norms.append(gradient_at(gradient).norm())
    weight: Tensor = norms[0] / (norms[1] + _ADDED)
    return weight.clamp(0.0, _LARGEST).detach()
