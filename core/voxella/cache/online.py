"""Latents encoded as training goes, by the frozen autoencoder: no cache.

For data sets of many large images: each visit sees the whole image, or a crop of it that is a
function of (seed, case, epoch). The factor on latents is measured on a part of the training cases.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import TypedDict

from voxella.autoencoder.load import AutoencoderPlan, load_autoencoder
from voxella.autoencoder.statistics import LatentStatistics, latent_statistics
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.cache.index import require_known
from voxella.data.volumes import PreparedVolumes
from voxella.diffusion.noise import seeded_uniform
from voxella.engine.runtime import broadcast_object
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.hashing import sha256_json
from voxella.progress import Steps
from voxella.ranks import Ranks
from voxella.workspace.state import StateFile, sealed

__all__ = ["OnlineLatents"]

_MEASURED = "latent_statistics.json"


class _Kept(TypedDict):
    key: str
    statistics: dict[str, Any]


_STATISTICS: StateFile[dict[str, Any]] = StateFile(_Kept, "rm {path}: it is measured again")


@dataclass(frozen=True)
class OnlineLatents:
    """Stands in the place of :class:`voxella.cache.latents.LatentCache` while training.

    Attributes:
        plan: The autoencoder's.
        volumes: The prepared data set.
        coder: The autoencoder, on the device.
        fingerprint: Of the autoencoder.
        device: Where it encodes.
        folder: Of the stage: keeps what was measured.
        has_sigma: Whether latents are distributions.
    """

    plan: AutoencoderPlan
    volumes: PreparedVolumes
    coder: TiledAutoencoder
    fingerprint: str
    device: torch.device
    folder: Path
    has_sigma: bool
    # Batches are made by a thread beside that of validation, and windows share norms.
    _one_at_a_time: threading.Lock

    @classmethod
    def open(
        cls, plan: AutoencoderPlan, prepared: Path, autoencoder: Path, folder: Path, ranks: Ranks
    ) -> OnlineLatents:
        """Load the autoencoder beside the model that will be trained; collective.

        Args:
            plan: The recipe's.
            prepared: The prepared data set.
            autoencoder: Folder of an autoencoder trained in place.
            folder: Of the training stage.
            ranks: This process.

        Raises:
            UserError: Nothing is prepared, or the autoencoder has no weights.
        """
        coder = load_autoencoder(plan, autoencoder, ranks.device)
        model = tiled(coder, plan, ranks.device, folder, quiet=not ranks.is_main)
        volumes = PreparedVolumes(
            prepared,
            sequences=plan.sequences,
            optional=plan.optional,
            spatial_dims=len(plan.latent.size),
        )
        lock, place = threading.Lock(), ranks.device
        found = cls(plan, volumes, model, coder.fingerprint, place, folder, False, lock)
        sigma = found._encoded(volumes.ids[0], 0)[1] is not None
        return replace(found, has_sigma=sigma)

    @property
    def key(self) -> str:
        """Return a hash of all that decides the latents."""
        latent = self.plan.latent
        shape = [latent.channels, latent.size, latent.crop, latent.scale_cases]
        windows = self.coder.windows.as_json()
        return sha256_json(["online", self.fingerprint, windows, shape, self.volumes.sources])

    @property
    def has_absent(self) -> bool:
        """Return whether any case lacks a sequence."""
        return any(self.volumes.absent(case_id) for case_id in self.volumes.ids)

    @property
    def statistics(self) -> LatentStatistics:
        """Return the statistics of the first ``latent.scale_cases`` cases; collective.

        Which they are is a matter of the seed alone. One process measures, and keeps what it found,
        so that a resumed training has the same factor to the last digit.

        Raises:
            UserError: There is no training case, or the latents do not vary.
        """
        ranks = Ranks.from_environment()
        found = self._measured() if ranks.is_main else None
        kept = broadcast_object(found)
        assert kept is not None, "the first process has measured"
        return LatentStatistics.from_json(kept)

    def present(self, case_id: str) -> Tensor:
        """Return which channels have a sequence behind them, ``(C,)`` bool."""
        mask = torch.ones(self.plan.latent.channels, dtype=torch.bool)
        mask[list(self.plan.latent_channels(self.volumes.absent(case_id)))] = False
        return mask

    def require(self, ids: Iterable[str]) -> None:
        """Refuse to go on without a case.

        Raises:
            UserError: Cases are missing; lists them.
        """
        known: Collection[str] = frozenset(self.volumes.ids)
        require_known(ids, known, f"image in {self.volumes.folder}")

    def entries(self, case_id: str) -> tuple[str, ...]:
        """Return the case: there are no variations."""
        return (case_id,)

    def read(self, case_id: str, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma, each ``(C, *spatial)`` float32 on the CPU.

        Raises:
            UserError: A latent is not finite, or not of the recipe's shape.
            ValueError: The latents are no distributions.
        """
        mean, log_sigma = self._encoded(case_id, epoch)
        if log_sigma is None:
            raise ValueError("the autoencoder gives means alone; received a wish for log sigma")
        return mean, log_sigma

    def mean(self, case_id: str, epoch: int = 0) -> Tensor:
        """Return the mean alone, as :meth:`read`."""
        return self._encoded(case_id, epoch)[0]

    @torch.no_grad()
    def _encoded(self, case_id: str, epoch: int) -> tuple[Tensor, Tensor | None]:
        whole = self.volumes.read(case_id)
        image = whole[self._place(case_id, epoch, whole.shape[1:])]
        with self._one_at_a_time:
            found = self.coder.encode(image.unsqueeze(0).to(self.device))
        mean, log_sigma = (None if v is None else v[0].float().cpu() for v in found)
        assert mean is not None, "log sigma alone may be absent"
        latent = self.plan.latent
        wanted = (latent.channels, *latent.size)
        if tuple(mean.shape) != wanted:
            raise UserError(
                f"case {case_id}: an image of {tuple(image.shape)} gives a latent of "
                f"{tuple(mean.shape)}; latent.channels and latent.size say {wanted}",
                remedy=f"--set latent.size={list(mean.shape[1:])}, or change latent.crop",
            )
        gone = list(self.plan.latent_channels(self.volumes.absent(case_id)))
        for values in (mean, log_sigma):
            if values is None:
                continue
            values[gone] = 0.0
            if not bool(torch.isfinite(values).all()):
                raise UserError(
                    f"case {case_id}: its latent is not finite",
                    remedy="look at the volume; are these the autoencoder's own weights?",
                )
        return mean, log_sigma

    def _place(self, case_id: str, epoch: int, size: Sequence[int]) -> tuple[slice, ...]:
        """Return what of an image a visit sees, by channel and axis: all, or a crop by chance."""
        crop: Sequence[int] | None = self.plan.latent.crop
        if crop is None:
            return (slice(None),)
        seed, what = self.plan.seed, "latent-crop"
        drawn = seeded_uniform((len(crop),), seed=seed, case_id=case_id, step=epoch, purpose=what)
        places = zip(size, crop, drawn.tolist(), strict=True)
        first = [int(share * (n - edge + 1)) for n, edge, share in places]
        return (slice(None), *(slice(f, f + e) for f, e in zip(first, crop, strict=True)))

    def _measured(self) -> dict[str, Any]:
        path = self.folder / _MEASURED
        kept = _STATISTICS.read_or_remake(path)
        if kept is not None and kept["key"] == self.key:
            known: dict[str, Any] = kept["statistics"]
            return known
        ids = self._first_cases()
        pairs, absent = [], [self.plan.latent_channels(self.volumes.absent(i)) for i in ids]
        with Steps("measure latents", len(ids)) as steps:
            for case_id in ids:
                pairs.append(self._encoded(case_id, 0))
                steps.advance()
        found = latent_statistics(pairs, absent=absent).as_json()
        write_json_atomic(path, sealed({"key": self.key, "statistics": found}))
        return found

    def _first_cases(self) -> list[str]:
        """Return the cases that are measured: the first in an order drawn by the seed."""

        def drawn(case_id: str) -> tuple[float, str]:
            seed, what = self.plan.seed, "latent-scale"
            share = seeded_uniform((), seed=seed, case_id=case_id, step=0, purpose=what)
            return float(share), case_id

        return sorted(self.volumes.ids_of("train"), key=drawn)[: self.plan.latent.scale_cases]
