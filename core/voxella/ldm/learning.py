"""Whether a diffusion model predicts better than one that predicts 0, by noise level.

A network whose last layer starts at zero, as ours do, begins as the one that predicts 0. A model
that is frozen, hardly moves or was given useless weights stays there or above, while its loss still
jumps about with the noise of the batches and looks alive. Both losses are of the same noise at the
same timesteps, so that their ratio hardly jumps at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BEATS_ZERO",
    "OVER_ZERO",
    "VALIDATED",
    "VALIDATED_OVER_ZERO",
    "VALIDATED_ZERO",
    "WARN_FROM_STEP",
    "LearningWatch",
    "NoiseBand",
    "band_sums",
    "bands_of",
    "few_cases",
]

# Scalars of the log: the loss over the zero predictor's, by quarter of the schedule, and whether
# any of the four has ever been clearly below 1 (1 or 0; only once that is known).
OVER_ZERO = "loss_over_zero/timestep_quartile_{number}"
BEATS_ZERO = "learning/beats_zero"
# Of the held-out cases: the loss, the zero predictor's at the same noise, and one over the other.
VALIDATED = "validation/timestep_quartile_{number}"
VALIDATED_ZERO = "validation/zero_timestep_quartile_{number}"
VALIDATED_OVER_ZERO = "validation_over_zero/timestep_quartile_{number}"

# Measured on random latents with the smallest networks of the profile smoke (8 channels; wider ones
# learn faster), the best of the four ratios. Noise predicted: 0.986 at step 50 at a learning rate
# of 1e-4, 0.998 at step 100 and 0.997 at 200 at 1e-5. Rectified flow: 0.998 at step 200 at 1e-4;
# at 1e-5 it is 0.9998 there, and that is told: it has hardly moved. At 1e-12 it stays 1.0000.
WARN_FROM_STEP = 200
_CLEARLY_BELOW = 0.999
_CASES = 8
_BANDS = 4


@dataclass(frozen=True)
class NoiseBand:
    """Sums over the cases whose timestep lies in one quarter of the schedule.

    Attributes:
        loss: The model's reconstruction losses.
        zero: Of a network that predicts 0, at the same noise and timesteps.
        cases: How many.
    """

    loss: float = 0.0
    zero: float = 0.0
    cases: float = 0.0

    def __add__(self, other: NoiseBand) -> NoiseBand:
        return NoiseBand(self.loss + other.loss, self.zero + other.zero, self.cases + other.cases)

    @property
    def ratio(self) -> float:
        """Return the loss over the zero predictor's; 1 where there is nothing to compare."""
        return self.loss / self.zero if self.zero > 0 else 1.0


def band_sums(
    timesteps: Tensor, schedule_steps: int, loss: Tensor, zero: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """Yield the sums of one batch by quarter of the schedule, each a scalar with its name.

    Args:
        timesteps: ``(B,)``.
        schedule_steps: Timesteps of the schedule.
        loss: ``(B,)``, float64, the model's by case.
        zero: ``(B,)``, of a network that predicts 0; None: not known.
    """
    quarter = (timesteps * _BANDS // schedule_steps).clamp(max=_BANDS - 1)
    for index in range(_BANDS):
        here = quarter == index
        # Not loss[here]: picking by a mask would make a GPU wait for the count.
        yield f"quartile_{index}", loss.where(here, 0.0).sum()
        if zero is not None:
            yield f"quartile_{index}_zero", zero.where(here, 0.0).sum()
        yield f"quartile_{index}_cases", here.sum()


def bands_of(sums: Mapping[str, float]) -> list[NoiseBand]:
    """Return the bands of what :func:`band_sums` gave, added up by name; least noise first."""
    return [
        NoiseBand(sums.get(name, 0.0), sums.get(f"{name}_zero", 0.0), sums.get(f"{name}_cases", 0))
        for name in (f"quartile_{index}" for index in range(_BANDS))
    ]


class LearningWatch:
    """Judges sums over all processes, as they are logged; so neither ranks nor batch matter."""

    def __init__(self) -> None:
        self.beats_zero: bool | None = None
        self._recent: list[Sequence[NoiseBand]] = []

    def add(self, step: int, bands: Sequence[NoiseBand]) -> str | None:
        """Take what was summed since the last call and return a warning, once, or None.

        Args:
            step: The optimizer step, from 1.
            bands: From the least noise to the most.
        """
        # What was once better is not looked at again; what was not may still become so.
        if self.beats_zero:
            return None
        judged = self._enough(bands)
        if judged is None:
            return None
        if any(band.ratio < _CLEARLY_BELOW for band in judged):
            self.beats_zero = True
            return None
        if step < WARN_FROM_STEP or self.beats_zero is not None:
            return None
        self.beats_zero = False
        ratios = ", ".join(f"{band.ratio:.4f}" for band in judged)
        return (
            f"THE MODEL IS NOT LEARNING: after {step} steps its loss is not below that of a "
            f"network that predicts 0, at any noise level\n"
            f"  received: loss over the zero predictor's, least noise to most: {ratios}\n"
            f"  expected: below {_CLEARLY_BELOW} in at least one of the four\n"
            "  look at optimizer.lr and warmup_steps, init (what is frozen, what was loaded), "
            "the latents (voxella check), and at diffusion.prediction"
        )

    def _enough(self, bands: Sequence[NoiseBand]) -> list[NoiseBand] | None:
        """Return the newest sums that are of enough cases in every band; None: too few so far."""
        self._recent.append(bands)
        total = [NoiseBand()] * len(bands)
        for index in range(len(self._recent) - 1, -1, -1):
            total = [a + b for a, b in zip(total, self._recent[index], strict=True)]
            if min(band.cases for band in total) >= _CASES:
                self._recent = self._recent[index:]
                return total
        return None


def few_cases(cases: int, batch_size: int) -> str | None:
    """Return a warning where a batch holds more than the whole training set, or None."""
    if cases >= batch_size:
        return None
    return (
        f"THE TRAINING SET IS SMALLER THAN A BATCH: {cases} cases, "
        f"deepspeed.train_batch_size {batch_size}: every step sees each case "
        f"{batch_size / cases:.1f} times, at other noise\n"
        f"  to see new cases at each step: --set deepspeed.train_batch_size={cases}, or more data"
    )
