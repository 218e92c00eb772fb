"""Losses per case, and their mean over the cases that count."""

from __future__ import annotations

from typing import assert_never

import torch
from torch import Tensor

from voxella.diffusion.names import Prediction, Reconstruction

__all__ = ["focal_loss", "masked_mean", "min_snr_weight", "p2_weight", "reconstruction_loss"]


def reconstruction_loss(
    kind: Reconstruction, prediction: Tensor, target: Tensor, present: Tensor | None = None
) -> Tensor:
    """Return each case's mean absolute (``l1``, the paper's) or mean squared (``mse``) error.

    Args:
        kind: The recipe's ``loss.reconstruction``.
        prediction: ``(B, C, *spatial)``, any float type; compared in float32.
        target: Of the same shape.
        present: ``(B, C)`` bool, the channels that count; None: all do.

    Returns:
        ``(B,)``, the mean over what counts. Cases are of one size, so their mean is the mean over
        all elements where all count.
    """
    error = prediction.float() - target.float()
    error = error.abs() if kind == "l1" else error.square()
    if present is None:
        return error.flatten(1).mean(1)
    # Each channel has as many voxels: the mean of the present channels' means is that of all.
    means = torch.where(present, error.flatten(2).mean(2), 0.0)
    return means.sum(1) / present.sum(1)


def p2_weight(alpha: Tensor, sigma: Tensor, *, k: float, gamma: float) -> Tensor:
    """Return ``1 / (k + SNR)^gamma`` (Choi et al. 2022, arXiv:2204.00227, equation 8).

    It multiplies the error of whatever is predicted: theirs is the noise's, where the weight before
    was 1 at every timestep.

    Args:
        alpha: Signal factor by case, any shape.
        sigma: Noise standard deviation, of the same shape, above 0; SNR is ``alpha^2 / sigma^2``.
        k: Keeps the weight finite at pure noise.
        gamma: How far timesteps of little noise are played down; 0 is 1 everywhere.
    """
    return (k + (alpha / sigma).square()).pow(-gamma)


def min_snr_weight(prediction: Prediction, alpha: Tensor, sigma: Tensor, *, gamma: float) -> Tensor:
    """Return the factor that makes a squared error one of x_0 times ``min(SNR, gamma)``.

    Hang et al. 2023 (arXiv:2303.09556), section 3.4: ``min(SNR, gamma)`` where x_0 is predicted,
    over ``SNR`` where the noise is, over ``SNR + 1`` where v is. For the straight path of a flow
    likewise: at the same x_t an error e of x_0 is one of ``(alpha + sigma) e / sigma`` of
    ``noise - x_0``. The weights are of squared errors; on absolute ones they are what they are.

    Args:
        prediction: What the network predicts.
        alpha: Signal factor by case, any shape.
        sigma: Noise standard deviation, of the same shape, above 0; SNR is ``alpha^2 / sigma^2``.
        gamma: The SNR above which every timestep counts the same for x_0; the paper's is 5.
    """
    match prediction:
        case "epsilon":
            error = alpha
        case "x0":
            error = sigma
        case "v":
            error = alpha.square() + sigma.square()
        case "flow":
            error = alpha + sigma
        case _:
            assert_never(prediction)
    # All times sigma^2, which is nowhere 0 as alpha is at a flow's noisy end.
    return torch.minimum(alpha.square(), gamma * sigma.square()) / error.square()


def focal_loss(logits: Tensor, target: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """Return each class's term of the softmax focal loss (Lin et al. 2017, equation 5).

    ``-weight_c target_c (1 - p_c)^gamma log p_c``: what MONAI's ``FocalLoss(use_softmax=True,
    reduction="none")`` returns. Summed over the classes it is Lin's loss of a case, and the CCELLA
    code's class loss; MONAI's own mean also divides by the number of classes, and is the loss of
    the downstream classifier. It is linear in ``target``: a target scaled by 100 gives 100 times
    the loss.

    Args:
        logits: ``(B, num_classes)``.
        target: ``(B, num_classes)``, one-hot or any scale of it.
        gamma: How far easy cases are played down; 0 is cross-entropy.
        alpha: The first class weighs ``1 - alpha``, every other ``alpha``; None: all weigh 1.

    Returns:
        ``(B, num_classes)``, float32.
    """
    log_p = logits.float().log_softmax(1)
    # 1 - p without cancellation. The floor keeps the gradient finite for gamma below 1 at p = 1.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(torch.float32).tiny)
    loss = -target.float() * rest.pow(gamma) * log_p
    if alpha is None:
        return loss
    weights = torch.full_like(loss[0], alpha)
    weights[0] = 1 - alpha
    return weights * loss


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | float | None = None) -> Tensor:
    """Return the mean of the values whose mask is set; 0, with zero gradient, when none is.

    Args:
        values: ``(B,)``.
        mask: ``(B,)`` bool.
        count: Divide by this rather than by the number of set values. A rank of several passes the
            mean of that number over ranks, so that the average over ranks is the global mean.

    Returns:
        A scalar, always finite when the chosen values are.
    """
    total = torch.where(mask, values, torch.zeros_like(values)).sum()
    chosen = torch.as_tensor(mask.sum() if count is None else count, device=values.device)
    # A count below one is allowed when it is a mean over ranks; only zero must not divide.
    return total / torch.where(chosen > 0, chosen, torch.ones_like(chosen))
