"""What all processes have encoded, joined into one index with the training set's statistics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from voxella.autoencoder.statistics import latent_statistics
from voxella.cache.index import ENCODE, FORMAT, INDEX
from voxella.cache.latent_writer import ROUNDING
from voxella.cache.latents import LatentCache
from voxella.cache.shard_reader import ShardReader
from voxella.cache.shards import collect_shards
from voxella.cache.storage import LATENT_STORAGE
from voxella.errors import UserError
from voxella.files import write_json_atomic
from voxella.wording import listed
from voxella.workspace.state import sealed

__all__ = ["merge_latents"]


def merge_latents(
    folder: Path,
    dtype: str,
    *,
    key: str,
    fingerprint: str,
    sources: Mapping[str, str],
    train_ids: Collection[str],
    variations: Mapping[str, Mapping[str, Any]] | None = None,
    absent: Mapping[str, Sequence[int]] | None = None,
) -> LatentCache:
    """Join what all ranks wrote into one index, with the training set's statistics.

    Call it on one rank, after every rank has written its last shard.

    Args:
        folder: The cache's folder.
        dtype: What the latents are stored in.
        key: As given to the writers.
        fingerprint: Of the autoencoder.
        sources: As given to the writers.
        train_ids: The cases, and their variations, that the statistics run over.
        variations: Of each entry that is a variation ``of``, ``number`` and ``change``.
        absent: Channels of sequences that a case lacks, by entry, of those that lack any.

    Raises:
        UserError: A case is missing; lists all that are.
    """
    shard_of = collect_shards(folder, key=key, wanted=sources)
    missing = sorted(set(sources) - set(shard_of))
    if missing:
        raise UserError(
            f"{len(missing)} cases are not encoded yet: {listed(missing)}", remedy=ENCODE
        )
    reader, storage = ShardReader(folder, shard_of), LATENT_STORAGE[dtype]
    lacking = absent or {}
    told = {
        i: {**((variations or {}).get(i) or {}), **({"absent": lacking[i]} if i in lacking else {})}
        for i in sources
    }
    shapes = {i: list(storage["mean"].shape(reader, i, "mean")) for i in sorted(sources)}
    # All cases are of one autoencoder.
    sigma = all(reader.has(case_id, "log_sigma") for case_id in sorted(sources)[:1])
    index = {
        "format": FORMAT,
        "key": key,
        "autoencoder": fingerprint,
        "dtype": dtype,
        "shape": next(iter(shapes.values()), []),
        "statistics": _statistics(reader, dtype, sorted(train_ids), lacking, sigma=sigma),
        **({} if sigma else {"log_sigma": False}),
        "cases": {
            i: {"shard": shard_of[i], "shape": shape, "source": sources[i], **told[i]}
            for i, shape in shapes.items()
        },
    }
    write_json_atomic(folder / INDEX, sealed(index))
    return LatentCache(folder, index)


def _statistics(
    reader: ShardReader,
    dtype: str,
    training: Sequence[str],
    absent: Mapping[str, Sequence[int]],
    *,
    sigma: bool,
) -> dict[str, Any] | None:
    """Measure the latents as they are stored: these are what training sees."""
    if not training:
        return None
    storage = LATENT_STORAGE[dtype]
    pairs = (
        (
            storage["mean"].read(reader, i, "mean"),
            storage["log_sigma"].read(reader, i, "log_sigma") if sigma else None,
        )
        for i in training
    )
    rounding = [float(reader.tensor(case_id, ROUNDING)) for case_id in training]
    return latent_statistics(pairs, rounding, [absent.get(i, ()) for i in training]).as_json()
