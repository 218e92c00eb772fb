"""Schedules, predictions, losses, samplers, guidance: mathematics without I/O."""

from voxella.diffusion.guidance import combine
from voxella.diffusion.losses import (
    Reconstruction,
    focal_loss,
    masked_mean,
    reconstruction_loss,
)
from voxella.diffusion.noise import seeded_noise, seeded_timesteps, seeded_uniform
from voxella.diffusion.prediction import Prediction, target, to_epsilon, to_x0
from voxella.diffusion.samplers import Sampler, SamplerName, make_sampler
from voxella.diffusion.sampling import sample
from voxella.diffusion.schedule import Schedule, ScheduleName, make_schedule

__all__ = [
    "Prediction",
    "Reconstruction",
    "Sampler",
    "SamplerName",
    "Schedule",
    "ScheduleName",
    "combine",
    "focal_loss",
    "make_sampler",
    "make_schedule",
    "masked_mean",
    "reconstruction_loss",
    "sample",
    "seeded_noise",
    "seeded_timesteps",
    "seeded_uniform",
    "target",
    "to_epsilon",
    "to_x0",
]
