"""What a step of an autoencoder's training sees: which patches, which noise, at which rate.

Functions of (seed, case, visit) and of the step, so a resumed run equals an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from voxella.data.volumes import PreparedVolumes
from voxella.diffusion.noise import seeded_noise, seeded_uniform
from voxella.engine.order import DataOrder, SampleKey
from voxella.errors import UserError
from voxella.recipe.model import AutoencoderTraining

__all__ = ["PatchBatch", "PatchBatchBuilder", "PatchKey", "PatchOrder"]

_WARMUP_SHARE = 0.05
# Group norms see other statistics in a patch than in a whole volume. Measured on 64 x 64 x 32
# phantoms: 450 steps on 16 x 16 x 8 patches gave 15.3 dB on whole volumes, 50 more on whole ones
# 19.2 dB; whole volumes alone 16.5 dB for about the same time. So the last tenth of the steps is
# spent on whole volumes, where they are small enough to be trained on.
_WHOLE_SHARE = 0.1
_WHOLE_VOXELS = 2**18
_WHOLE_RATE = 1 / 3


@dataclass(frozen=True)
class PatchKey(SampleKey):
    """One case at one of its visits, and how it is looked at.

    Attributes:
        step: Optimizer step, from 0.
        size: Voxels of the patch along each axis.
        weight: Of its micro batch's mean among the means of all micro batches of the step: 1 where
            they are equally large, 0 where a process has no case and repeats another's.
    """

    step: int
    size: tuple[int, ...]
    weight: float = 1.0


class PatchOrder(DataOrder):
    """The order of the training split, with a size for every visit, and the learning rate.

    A step's cases need not divide by the processes: a process may have fewer than another, or
    none, and its mean weighs accordingly.

    Args:
        training: The recipe's block.
        volumes: The prepared data set.
        factor: The autoencoder's.
        seed: The recipe's.

    Attributes:
        shape: Of the volumes, ``(*spatial)``.
        size: Of the patches; of the volumes where the recipe names none.
        whole_steps: Steps at the end that a training on patches spends on whole volumes.

    Raises:
        UserError: There is no training case, or volumes or patches do not suit the network.
    """

    def __init__(
        self, training: AutoencoderTraining, volumes: PreparedVolumes, factor: int, seed: int
    ) -> None:
        cases = volumes.ids_of("train")
        self.training = training
        self.shape = _check_shapes(volumes, cases, training, factor)
        self.size = tuple(training.patch_size or self.shape)
        on_patches = training.patch_size is not None and math.prod(self.shape) <= _WHOLE_VOXELS
        self.whole_steps = math.ceil(_WHOLE_SHARE * training.steps) if on_patches else 0
        super().__init__(cases, seed=seed, batch_size=training.batch_size)

    def step(self, index: int) -> Sequence[SampleKey]:
        """Return the sample keys of a step (from 0), over all processes."""
        keys, size = super().step(index), self.size
        if index >= self.training.steps - self.whole_steps:
            # As many volumes as make up the voxels of the patches, one at least.
            share = math.prod(size) / math.prod(self.shape)
            keys, size = keys[: max(1, round(len(keys) * share))], self.shape
        return [PatchKey(key.case_id, key.epoch, index, size) for key in keys]

    def micro_batches(
        self, index: int, *, rank: int, world: int, accumulation: int
    ) -> Sequence[Sequence[SampleKey]]:
        """Return this process's micro batches of a step, one per accumulation step."""
        keys = cast("list[PatchKey]", self.step(index))
        parts, count = world * accumulation, len(keys)
        found = []
        for micro in range(accumulation):
            place = micro * world + rank
            part = keys[count * place // parts : count * (place + 1) // parts]
            weight = len(part) * parts / count
            # Every process computes in every micro batch: under ZeRO each pass is a meeting.
            found.append([replace(key, weight=weight) for key in part or keys[:1]])
        return found

    def factor(self, step: int) -> float:
        """Return the factor on the learning rate of a step (from 0)."""
        if self.training.lr_schedule == "constant":
            return 1.0
        return _rate(step, self.training.steps, self.whole_steps)


@dataclass(frozen=True)
class PatchBatch:
    """One micro batch.

    Attributes:
        case_ids: The cases.
        images: ``(B, C, *spatial)``.
        noise: Standard normal, ``(B, L, *spatial / factor)``.
        step: Optimizer step, from 0.
        weight: Of this micro batch, see :class:`PatchKey`.
    """

    case_ids: tuple[str, ...]
    images: Tensor
    noise: Tensor
    step: int
    weight: float

    def to(self, device: torch.device | str) -> PatchBatch:
        """Return the batch on another device."""
        return replace(self, images=self.images.to(device), noise=self.noise.to(device))


@dataclass(frozen=True)
class PatchBatchBuilder:
    """Makes a :class:`PatchBatch` of visits. Any process makes the same batch.

    Attributes:
        volumes: The prepared data set.
        seed: The recipe's.
        latent_channels: The autoencoder's.
        factor: The autoencoder's.
    """

    volumes: PreparedVolumes
    seed: int
    latent_channels: int
    factor: int

    @property
    def cases(self) -> Mapping[str, Any]:
        """Return the training cases by id."""
        return dict.fromkeys(self.volumes.ids_of("train"))

    def make(
        self, keys: Sequence[SampleKey], *, global_keys: Sequence[SampleKey] | None = None
    ) -> PatchBatch:
        """Return the batch of ``keys``, which a :class:`PatchOrder` gave."""
        wanted = cast("Sequence[PatchKey]", keys)
        latent = (self.latent_channels, *(width // self.factor for width in wanted[0].size))
        return PatchBatch(
            case_ids=tuple(key.case_id for key in wanted),
            images=torch.stack([self._patch(key) for key in wanted]),
            noise=torch.stack([self._noise(key, latent) for key in wanted]),
            step=wanted[0].step,
            weight=wanted[0].weight,
        )

    def _noise(self, key: PatchKey, shape: Sequence[int]) -> Tensor:
        return seeded_noise(
            shape, seed=self.seed, case_id=key.case_id, step=key.epoch, purpose="autoencoder"
        )

    def _patch(self, key: PatchKey) -> Tensor:
        volume, size = self.volumes.read(key.case_id), key.size
        if tuple(volume.shape[1:]) == tuple(size):
            return volume
        draws = seeded_uniform(
            (len(size),),
            seed=self.seed,
            case_id=key.case_id,
            step=key.epoch,
            purpose="patch",
        ).tolist()
        for axis, (width, draw) in enumerate(zip(size, draws, strict=True), start=1):
            start = int(draw * (volume.shape[axis] - width + 1))
            volume = volume.narrow(axis, start, width)
        return volume


def _rate(step: int, steps: int, whole_steps: int) -> float:
    """Return the factor on the learning rate: a short linear warm-up, then a cosine to 0.

    The steps on whole volumes that end a training on patches go through it once more, lower. A
    function of the step alone, so a resumed run needs no scheduler's state.
    """
    if whole_steps and step >= steps - whole_steps:
        return _WHOLE_RATE * _rate(step - (steps - whole_steps), whole_steps, 0)
    steps -= whole_steps
    warmup = max(1, round(_WARMUP_SHARE * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _check_shapes(
    volumes: PreparedVolumes, cases: Sequence[str], training: AutoencoderTraining, factor: int
) -> tuple[int, ...]:
    """Refuse sizes that the autoencoder cannot halve, or patches that do not fit.

    Returns:
        The volumes' shape, ``(*spatial)``.
    """
    if not cases:
        raise UserError(
            f"{volumes.folder} has no training case",
            remedy="give cases the split `train` in the manifest",
        )
    shape = tuple(volumes.read(cases[0]).shape[1:])
    size = shape if training.patch_size is None else tuple(training.patch_size)
    name = "prepare.size" if training.patch_size is None else "autoencoder_training.patch_size"
    told = f"{name} {list(size)}: "
    problems = []
    if len(size) != len(shape):
        problems.append(f"{told}the volumes have {len(shape)} axes")
    elif any(width > whole for width, whole in zip(size, shape, strict=True)):
        problems.append(f"{told}larger than the volumes, {list(shape)}")
    if any(width % factor for width in size):
        problems.append(f"{told}not divisible by the autoencoder's factor {factor}")
    if problems:
        raise UserError("\n".join(problems), expected=f"multiples of {factor} up to {list(shape)}")
    return shape
