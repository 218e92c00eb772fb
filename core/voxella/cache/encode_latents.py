"""Volumes to cached latents: mean and log sigma of every prepared case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxella.autoencoder.load import (
    AutoencoderPlan,
    check_weights_exist,
    choose_device,
    load_autoencoder,
)
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder
from voxella.autoencoder.tiling.choice import tiled
from voxella.cache.index import FORMAT, INDEX
from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentCache, LatentWriter, bytes_per_case
from voxella.cache.shards import stored_bytes, whole_entries
from voxella.cache.variations import read_entry, variations_of
from voxella.data.volumes import PreparedVolumes
from voxella.engine.runtime import barrier
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.progress import Steps, print_line
from voxella.wording import human_bytes, listed
from voxella.workspace.record import StageRecord
from voxella.workspace.space import require_space

__all__ = ["LatentEncoding"]


class LatentEncoding:
    """The latent half of the encode stage.

    Args:
        plan: What the autoencoder is built from.
        prepared: The prepared data set.
        folder: The cache's folder.
        autoencoder_dir: Trained weights, or None when the recipe names weights.

    Raises:
        UserError: Nothing is prepared, or the autoencoder has no weights.
    """

    def __init__(
        self, plan: AutoencoderPlan, prepared: Path, folder: Path, autoencoder_dir: Path | None
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.autoencoder_dir = autoencoder_dir
        check_weights_exist(plan.component, training=plan.trained, trained=autoencoder_dir)
        # Each case is read once: keeping volumes would only cost memory.
        self.volumes = PreparedVolumes(
            prepared,
            sequences=plan.sequences,
            optional=plan.optional,
            spatial_dims=len(plan.latent.size),
            keep_bytes=0,
        )
        self.variations = variations_of(plan.latent, plan.seed, self.volumes)
        made_from = {name: one.source for name, one in self.variations.items()}
        self.sources = self.volumes.sources | made_from

    @property
    def missing_bytes(self) -> int:
        """Return what is still to be written, as far as the folder tells without the weights."""
        if (self.folder / INDEX).is_file():
            return 0
        whole = self._bytes_per_case() * len(self.sources)
        return max(0, whole - stored_bytes(self.folder))

    def run(self, *, rank: int, world: int, device: str) -> None:
        """Encode this rank's cases; on rank 0, join the index and write the record.

        Raises:
            UserError: The latent's shape is not the recipe's, a latent is not finite, or the disk
                is too small.
        """
        quiet = rank != 0
        place = choose_device(device)
        coder = load_autoencoder(self.plan, self.autoencoder_dir, place)
        autoencoder = tiled(coder, self.plan, place, self.folder, quiet=quiet)
        settings = self._settings(coder.fingerprint, autoencoder)
        key = sha256_json(settings)
        inputs = {**settings, "prepared": self.volumes.fingerprint}
        if self.variations:
            made_from = {name: one.source for name, one in self.variations.items()}
            inputs["variations"] = sha256_json(made_from)
        record = StageRecord(self.folder, "encode latents", inputs)
        if record.is_current() and LatentCache.is_whole(self.folder):
            print_line(f"latents: up to date ({self.folder})", quiet=quiet)
            return
        barrier()  # No process may still be reading the record when rank 0 removes it.
        if rank == 0:
            _print_changes(record, inputs)
            record.invalidate()
        self._encode_share(autoencoder, key, rank, world, place)
        barrier()
        if rank == 0 and self._complete(key):
            cache = merge_latents(
                self.folder,
                self.plan.latent.dtype,
                key=key,
                fingerprint=coder.fingerprint,
                sources=self.sources,
                train_ids=[*self.volumes.ids_of("train"), *self.variations],
                variations={name: one.as_json() for name, one in self.variations.items()},
                absent=self._absent(),
            )
            record.complete([INDEX], **self._facts(cache))
        barrier()

    def _absent(self) -> dict[str, list[int]]:
        """Return the channels without a sequence behind them, by entry; of those that have any."""
        of = {name: name for name in self.volumes.ids}
        of |= {name: one.case_id for name, one in self.variations.items()}
        found = {e: self.plan.latent_channels(self.volumes.absent(c)) for e, c in of.items()}
        return {entry: list(channels) for entry, channels in found.items() if channels}

    def _settings(self, fingerprint: str, autoencoder: TiledAutoencoder) -> dict[str, Any]:
        """Return what decides a latent beside its volume."""
        latent = self.plan.latent
        stored = {"channels": latent.channels, "size": latent.size, "dtype": latent.dtype}
        settings = {"format": FORMAT, "autoencoder": fingerprint, "latent": stored}
        if autoencoder.windows.encode is not None:
            windows = autoencoder.windows.as_json()
            settings["windows"] = {name: windows[name] for name in ("encode", "halo")}
        return settings

    def _encode_share(
        self, autoencoder: TiledAutoencoder, key: str, rank: int, world: int, device: torch.device
    ) -> None:
        # Cases first: their shards outlive a change of the variations.
        ids = [*self.volumes.ids, *self.variations]
        dtype = self.plan.latent.dtype
        with LatentWriter(self.folder, dtype, key=key, sources=self.sources, rank=rank) as writer:
            done = writer.done
            if rank == 0:
                forecast = self._bytes_per_case() * len([c for c in ids if c not in done])
                print_line(require_space(self.folder, forecast, f"latents of {self._told()}"))
            share = [case_id for case_id in ids[rank::world] if case_id not in done]
            with Steps("encode latents", len(share), quiet=rank != 0) as steps:
                for case_id in share:
                    writer.add(case_id, *self._latent(autoencoder, case_id, device))
                    steps.advance()

    @torch.no_grad()
    def _latent(
        self, autoencoder: TiledAutoencoder, case_id: str, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Encode one case, alone: a batch would let its neighbours touch the last bits."""
        volume = read_entry(self.volumes, self.variations, case_id)
        mean, log_sigma = autoencoder.encode(volume.unsqueeze(0).to(device))
        self._check_shape(case_id, tuple(volume.shape), tuple(mean.shape[1:]), autoencoder.factor)
        given = [mean] if log_sigma is None else [mean, log_sigma]
        if not all(bool(torch.isfinite(values).all()) for values in given):
            raise UserError(
                f"case {case_id}: its latent is not finite",
                remedy="look at the volume; are these the autoencoder's own weights?",
            )
        case = self.variations[case_id].case_id if case_id in self.variations else case_id
        # What a network makes of an absent sequence means nothing; zeros can be stored.
        channels = list(self.plan.latent_channels(self.volumes.absent(case)))
        for values in given:
            values[:, channels] = 0.0
        return mean[0], None if log_sigma is None else log_sigma[0]

    def _check_shape(
        self, case_id: str, image: tuple[int, ...], found: tuple[int, ...], factor: int
    ) -> None:
        latent = self.plan.latent
        if found != (latent.channels, *latent.size):
            raise UserError(
                f"case {case_id}: a volume of {image} gives a latent of {found} "
                f"(autoencoder {self.plan.component.name}, factor {factor}); the recipe says "
                f"latent.channels {latent.channels} and latent.size {latent.size}",
                remedy=f"--set latent.size={list(found[1:])}, or change prepare.size",
            )

    def _complete(self, key: str) -> bool:
        """Return whether every case is encoded; processes that are not connected may lag."""
        sources = self.sources
        missing = sorted(set(sources) - whole_entries(self.folder, key=key, wanted=sources))
        if missing:
            print_line(f"latents: {len(missing)} cases are left to other ranks: {listed(missing)}")
        return not missing

    def _told(self) -> str:
        more = f" and {len(self.variations)} variations" if self.variations else ""
        return f"{len(self.volumes.ids)} cases{more}"

    def _bytes_per_case(self) -> int:
        latent = self.plan.latent
        return bytes_per_case(latent.dtype, (latent.channels, *latent.size))

    def _facts(self, cache: LatentCache) -> dict[str, Any]:
        stored = stored_bytes(self.folder)
        facts: dict[str, Any] = {
            "cases": len(cache.ids),
            "shape": list(cache.shape),
            "bytes": stored,
            "bytes_per_case": round(stored / len(self.sources)),
            "statistics": None,
        }
        shape = "x".join(str(n) for n in cache.shape)
        print_line(
            f"latents: {self._told()} of {shape} {cache.dtype}, "
            f"{human_bytes(facts['bytes_per_case'])} a case"
        )
        if self.volumes.ids_of("train"):
            found = cache.statistics
            facts["statistics"] = found.as_json()
            print_line(
                f"latents: standard deviation {found.std:.4g} over {found.cases} training cases, "
                f"scale {found.scale:.6g}; noise share sigma^2 {found.noise_share:.2%}, "
                f"of rounding {found.rounding_share:.2g}"
            )
        return facts


def _print_changes(record: StageRecord, inputs: Mapping[str, Any]) -> None:
    """Say why latents that are there are not good enough."""
    previous = (record.previous() or {}).get("inputs")
    if previous is not None:
        names = sorted(inputs.keys() | previous.keys())
        changed = [name for name in names if inputs.get(name) != previous.get(name)]
        print_line(
            f"latents: made again where they depend on what has changed: {', '.join(changed)}"
        )
