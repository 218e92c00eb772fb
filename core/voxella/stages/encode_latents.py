"""Volumes to cached latents: mean and log sigma of every prepared case."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxella.cache.index import INDEX, listed
from voxella.cache.latents import LatentCache, LatentWriter, merge_latents
from voxella.cache.shards import DTYPES, whole_entries
from voxella.cache.space import human_bytes, require_space
from voxella.engine.runtime import barrier
from voxella.errors import UserError
from voxella.files import sha256_json
from voxella.progress import Steps, say
from voxella.recipe.model import Recipe
from voxella.stages.autoencoder_model import (
    LoadedAutoencoder,
    check_weights_exist,
    choose_device,
    load_autoencoder,
)
from voxella.stages.autoencoder_report import evaluate_autoencoder
from voxella.stages.record import StageRecord
from voxella.stages.volumes import PreparedVolumes

__all__ = ["LatentEncoding"]

# Weights from a file are tried on this many cases before all are encoded with them.
_TRIED_CASES = 4


class LatentEncoding:
    """The latent half of the encode stage.

    Args:
        recipe: The experiment.
        prepared: The prepared data set.
        folder: The cache's folder.
        autoencoder_dir: Trained weights, or None when the recipe names weights.

    Raises:
        UserError: Nothing is prepared, or the autoencoder has no weights.
    """

    def __init__(
        self, recipe: Recipe, prepared: Path, folder: Path, autoencoder_dir: Path | None
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.autoencoder_dir = autoencoder_dir
        check_weights_exist(recipe, autoencoder_dir)
        # Each case is read once: keeping volumes would only cost memory.
        self.volumes = PreparedVolumes(
            prepared,
            sequences=recipe.data.sequences,
            spatial_dims=len(recipe.latent.size),
            keep_bytes=0,
        )

    def run(self, *, rank: int, world: int, device: str) -> None:
        """Encode this rank's cases; on rank 0, join the index and write the record.

        Raises:
            UserError: The latent's shape is not the recipe's, a latent is not finite, or the disk
                is too small.
        """
        quiet = rank != 0
        place = choose_device(device)
        coder = load_autoencoder(self.recipe, self.autoencoder_dir, place)
        latent = self.recipe.latent
        stored = {"channels": latent.channels, "size": latent.size, "dtype": latent.dtype}
        settings = {"autoencoder": coder.fingerprint, "latent": stored}
        key = sha256_json(settings)
        inputs = {**settings, "prepared": self.volumes.fingerprint}
        record = StageRecord(self.folder, "encode latents", inputs)
        if record.is_current() and (self.folder / INDEX).is_file():
            say(f"latents: up to date ({self.folder})", quiet=quiet)
            return
        barrier()  # No process may still be reading the record when rank 0 removes it.
        tried = None
        if rank == 0:
            record.invalidate()
            tried = self._try_weights(coder, place)
        self._encode_share(coder, key, rank, world, place)
        barrier()
        if rank == 0 and self._complete(key):
            cache = merge_latents(
                self.folder,
                latent.dtype,
                key=key,
                fingerprint=coder.fingerprint,
                sources=self.volumes.sources,
                train_ids=self.volumes.ids_of("train"),
            )
            record.complete(**self._facts(cache, tried))
        barrier()

    def _try_weights(self, coder: LoadedAutoencoder, device: torch.device) -> dict[str, Any] | None:
        """Measure what weights from a file do to these images; trained ones were measured then."""
        measurable = self.volumes.ids_of("val") or self.volumes.ids_of("train")
        if self.recipe.autoencoder_training is not None or not measurable:
            return None
        report = evaluate_autoencoder(coder.model, self.volumes, device=device, count=_TRIED_CASES)
        say(str(report))
        return report.as_json()

    def _encode_share(
        self, coder: LoadedAutoencoder, key: str, rank: int, world: int, device: torch.device
    ) -> None:
        ids = self.volumes.ids
        dtype = self.recipe.latent.dtype
        with LatentWriter(
            self.folder, dtype, key=key, sources=self.volumes.sources, rank=rank
        ) as writer:
            done = writer.done
            if rank == 0:
                forecast = self._bytes_per_case() * len([c for c in ids if c not in done])
                say(require_space(self.folder, forecast, f"latents of {len(ids)} cases"))
            share = [case_id for case_id in ids[rank::world] if case_id not in done]
            with Steps("encode latents", len(share), quiet=rank != 0) as steps:
                for case_id in share:
                    writer.add(case_id, *self._latent(coder, case_id, device))
                    steps.advance()

    @torch.no_grad()
    def _latent(
        self, coder: LoadedAutoencoder, case_id: str, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Encode one case, alone: a batch would let its neighbours touch the last bits."""
        volume = self.volumes.read(case_id)
        mean, log_sigma = coder.model.encode(volume.unsqueeze(0).to(device))
        self._check_shape(case_id, tuple(volume.shape), tuple(mean.shape[1:]), coder.model.factor)
        if not bool(torch.isfinite(mean).all() and torch.isfinite(log_sigma).all()):
            raise UserError(
                f"case {case_id}: its latent is not finite",
                remedy="look at the volume; are these the autoencoder's own weights?",
            )
        return mean[0], log_sigma[0]

    def _check_shape(
        self, case_id: str, image: tuple[int, ...], found: tuple[int, ...], factor: int
    ) -> None:
        latent = self.recipe.latent
        if found != (latent.channels, *latent.size):
            raise UserError(
                f"case {case_id}: a volume of {image} gives a latent of {found} "
                f"(autoencoder {self.recipe.autoencoder.name}, factor {factor}); the recipe says "
                f"latent.channels {latent.channels} and latent.size {latent.size}",
                remedy=f"--set latent.size={list(found[1:])}, or change prepare.size",
            )

    def _complete(self, key: str) -> bool:
        """Tell whether every case is encoded; processes that are not connected may lag."""
        sources = self.volumes.sources
        missing = sorted(set(sources) - whole_entries(self.folder, key=key, wanted=sources))
        if missing:
            say(f"latents: {len(missing)} cases are left to other ranks: {listed(missing)}")
        return not missing

    def _bytes_per_case(self) -> int:
        latent = self.recipe.latent
        return 2 * latent.channels * math.prod(latent.size) * DTYPES[latent.dtype].itemsize

    def _facts(self, cache: LatentCache, tried: dict[str, Any] | None) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "cases": len(cache.ids),
            "shape": list(cache.shape),
            "bytes_per_case": self._bytes_per_case(),
            "reconstruction": tried,
            "statistics": None,
        }
        shape = "x".join(str(n) for n in cache.shape)
        say(
            f"latents: {len(cache.ids)} cases of {shape} {cache.dtype}, "
            f"{human_bytes(self._bytes_per_case())} a case"
        )
        if self.volumes.ids_of("train"):
            found = cache.statistics
            facts["statistics"] = found.as_json()
            say(
                f"latents: standard deviation {found.std:.4g} over {found.cases} training cases, "
                f"scale {found.scale:.6g}; noise share sigma^2 {found.noise_share:.2%}"
            )
        return facts
