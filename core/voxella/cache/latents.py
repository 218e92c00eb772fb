"""Latents as mean and log sigma, one pair per case, so that every step can draw anew.

The paper's released code keeps ONE draw per case: its noise is then part of every target. Mean
and log sigma take twice the space and bake in no noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NotRequired

import torch
from torch import Tensor
from typing_extensions import TypedDict

from voxella.autoencoder.statistics import LatentStatistics
from voxella.cache.index import AGAIN, ENCODE, INDEX, read_index, require_known
from voxella.cache.latent_writer import LatentWriter, bytes_per_case
from voxella.cache.shard_reader import ShardReader
from voxella.cache.shards import whole_entries
from voxella.cache.storage import LATENT_STORAGE
from voxella.errors import UserError
from voxella.hashing import sha256_json
from voxella.recipe.model import Latent
from voxella.workspace.state import StateFile

__all__ = ["LatentCache", "LatentWriter", "bytes_per_case"]


class _Case(TypedDict):
    shard: str
    shape: list[int]
    source: str
    # Channels of sequences that the case lacks.
    absent: NotRequired[list[int]]
    # Of a variation: its case, its number from 1 on, what happened to the image.
    of: NotRequired[str]
    number: NotRequired[int]
    change: NotRequired[dict[str, Any]]


class _Index(TypedDict):
    format: int
    key: str
    autoencoder: str
    dtype: Literal["bfloat16", "float32", "compact"]
    shape: list[int]
    statistics: dict[str, float | int | list[float]] | None
    log_sigma: NotRequired[bool]
    cases: dict[str, _Case]


_INDEX_FILE: StateFile[dict[str, Any]] = StateFile(_Index, AGAIN)


class LatentCache:
    """Latents read in place from memory-mapped files; safe to hand to forked or spawned workers.

    Attributes:
        folder: Where the cache lies.
        ids: Its cases, sorted; augmented variations of them are no cases.
        key: Hash of all that decides the latents: images, autoencoder, dtype.
        fingerprint: Of the autoencoder that made it.
        dtype: What it is stored in.
        shape: ``(C, *spatial)`` of every latent.
        has_sigma: Whether latents are distributions; if not, a draw of one is its mean.
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        varied = {name: entry for name, entry in index["cases"].items() if "of" in entry}
        self.ids: tuple[str, ...] = tuple(sorted(index["cases"].keys() - varied.keys()))
        self._variations: dict[str, list[str]] = {}
        for name in sorted(varied, key=lambda name: varied[name]["number"]):
            self._variations.setdefault(varied[name]["of"], []).append(name)
        sources = {case_id: entry["source"] for case_id, entry in index["cases"].items()}
        self.key = sha256_json([index["key"], sources])
        self.fingerprint: str = index["autoencoder"]
        self.dtype: str = index["dtype"]
        self.shape: tuple[int, ...] = tuple(index["shape"])
        self.has_sigma: bool = index.get("log_sigma", True)
        self._statistics: dict[str, Any] | None = index["statistics"]
        self._storage = LATENT_STORAGE[self.dtype]
        self._shards = ShardReader(
            folder, {case_id: entry["shard"] for case_id, entry in index["cases"].items()}
        )
        self._known = frozenset(index["cases"])
        cases = index["cases"].items()
        self._absent = {name: entry["absent"] for name, entry in cases if "absent" in entry}

    @classmethod
    def open(cls, folder: Path, settings: Latent | None = None) -> LatentCache:
        """Open a cache, and hold it to a recipe's ``latent`` block when that is given.

        Raises:
            UserError: There is no cache, or it was made with another shape or dtype.
        """
        cache = cls(Path(folder), read_index(folder, "latents", _INDEX_FILE))
        if settings is not None:
            wanted = {
                "shape": (settings.channels, *settings.size),
                "dtype": settings.dtype,
                "variations": settings.variations,
            }
            differing = [
                f"the latents in {folder} have {name} {getattr(cache, name)}, the recipe {value}"
                for name, value in wanted.items()
                if getattr(cache, name) != value
            ]
            if differing:
                raise UserError("\n".join(differing), remedy=ENCODE)
        return cache

    @staticmethod
    def is_whole(folder: Path) -> bool:
        """Return whether index and shards are there; a damaged shard may have been removed."""
        index = _INDEX_FILE.read_or_remake(folder / INDEX)
        if index is None:
            return False
        sources = {case_id: case["source"] for case_id, case in index["cases"].items()}
        return whole_entries(folder, key=index["key"], wanted=sources) == sources.keys()

    @property
    def statistics(self) -> LatentStatistics:
        """Return the exact statistics over the training cases, measured when encoding ended.

        Raises:
            UserError: The data set had no training case.
        """
        if self._statistics is None:
            raise UserError(
                f"{self.folder} has no latent statistics: no case has the split `train`",
                remedy=f"fix the manifest's splits, then {ENCODE}",
            )
        return LatentStatistics.from_json(self._statistics)

    def require(self, ids: Iterable[str]) -> None:
        """Refuse to go on without a case, instead of training on less than the user thinks.

        Raises:
            UserError: Cases are missing; lists them.
        """
        require_known(ids, self._known, f"latent in {self.folder}")

    @property
    def has_absent(self) -> bool:
        """Return whether any case lacks a sequence."""
        return bool(self._absent)

    def present(self, entry: str) -> Tensor:
        """Return which channels have a sequence behind them, ``(C,)`` bool."""
        mask = torch.ones(self.shape[0], dtype=torch.bool)
        mask[self._absent.get(entry, [])] = False
        return mask

    @property
    def variations(self) -> int:
        """Return how many augmented variations a training case has."""
        return max(map(len, self._variations.values()), default=0)

    def entries(self, case_id: str) -> tuple[str, ...]:
        """Return what :meth:`read` takes for a case: its id, then its variations."""
        return (case_id, *self._variations.get(case_id, ()))

    def read(self, case_id: str, epoch: int = 0) -> tuple[Tensor, Tensor]:
        """Return mean and log sigma, each ``(C, *spatial)`` float32; where :attr:`has_sigma`.

        Takes a case's id, or one of its :meth:`entries`; the same at every epoch.

        A float32 cache is not copied: the tensors are views of the file.

        Raises:
            UserError: The cache lacks the case.
            ValueError: The latents are no distributions.
        """
        if not self.has_sigma:
            raise ValueError(f"{self.folder} holds means alone; received a wish for log sigma")
        self.require([case_id])
        return self._part(case_id, "mean"), self._part(case_id, "log_sigma")

    def mean(self, case_id: str, epoch: int = 0) -> Tensor:
        """Return the mean alone, as :meth:`read`: log sigma is not touched."""
        self.require([case_id])
        return self._part(case_id, "mean")

    def _part(self, case_id: str, part: str) -> Tensor:
        return self._storage[part].read(self._shards, case_id, part).to(torch.float32)
