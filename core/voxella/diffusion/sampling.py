"""The one sampling loop."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from voxella.diffusion.names import Prediction
from voxella.diffusion.prediction import to_epsilon, to_x0
from voxella.diffusion.samplers import Estimate, Sampler

__all__ = ["sample"]


def sample(
    sampler: Sampler,
    denoise: Callable[[Tensor, int], Tensor],
    x: Tensor,
    *,
    prediction: Prediction,
    noise: Callable[[int], Tensor] | None = None,
    hold: Callable[[Tensor, int | None, int], Tensor] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Walk from noise to data.

    Sampling starts from N(0, I). A schedule's last alpha is not exactly 0 (0.012 for the paper's,
    0 for a rectified flow), so the start is a little off the trained path, as it is everywhere; for
    data of zero mean and unit variance it is exact.

    Args:
        sampler: What :func:`voxella.diffusion.samplers.make_sampler` returned.
        denoise: ``(x_t, t) -> output``: the network, guidance included, at one timestep for the
            whole batch. ``x_t`` comes in the type of the state; cast as the network needs.
        x: ``(B, C, *spatial)`` standard normal noise.
        prediction: What ``denoise`` returns: the recipe's ``diffusion.prediction``.
        noise: ``(index of the step, from 0) -> (B, C, *spatial)`` standard normal noise, asked of
            stochastic samplers only, and not for a move to clean data. There is no default, so that
            noise is a function of (seed, case id, step) and of no global generator.
        hold: ``(x_t, t, index of the step) -> x_t`` with what is given in place of what was made,
            noised to t; t is None at the end. What is generated then fits what is held (RePaint,
            Lugmayr et al. 2022, algorithm 1 without its resampling, U = 1).
        on_step: ``(steps done, steps in all)``, called after each step.

    Returns:
        ``(B, C, *spatial)``, the state: float32, or float64 where ``x`` is. It stays so whatever
        the network computes in: a step moves the state by less than bf16 resolves.

    Raises:
        ValueError: When the sampler is stochastic and ``noise`` is None.
    """
    if sampler.stochastic and noise is None:
        raise ValueError(f"sampler {sampler.name} needs noise(step)")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    previous_x0 = None
    with torch.no_grad():
        for index, move in enumerate(sampler.moves):
            x = x if hold is None else hold(x, move.t, index)
            output = denoise(x, move.t)
            known = (prediction, output, x, move.t, sampler.schedule)
            estimate = Estimate(to_x0(*known), to_epsilon(*known), previous_x0)
            wanted = sampler.stochastic and move.sigma_next > 0.0
            fresh = noise(index).to(x) if noise and wanted else None
            x = sampler.update(move, x, estimate, fresh)
            previous_x0 = estimate.x0
            if on_step is not None:
                on_step(index + 1, sampler.steps)
        return x if hold is None else hold(x, None, sampler.steps)
