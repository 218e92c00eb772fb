"""The latent cache: exact, resumable, shared between ranks, read in place."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from voxella.autoencoder.statistics import LatentStatistics, latent_statistics
from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentCache, LatentWriter
from voxella.errors import UserError
from voxella.recipe.model import Latent

SHAPE = (3, 4, 5, 2)
Latents = dict[str, tuple[Tensor, Tensor]]


def random_latents(count: int, seed: int = 0) -> Latents:
    """Cases with different means and noise by channel, so that no statistic is symmetric."""
    generator = torch.Generator().manual_seed(seed)
    offset = torch.tensor([0.5, -2.0, 7.0]).reshape(3, 1, 1, 1)
    return {
        f"case-{number:02d}": (
            torch.randn(SHAPE, generator=generator) * (number + 1) + offset,
            torch.randn(SHAPE, generator=generator) - 1.0,
        )
        for number in range(count)
    }


def marks(latents: Latents) -> dict[str, str]:
    return {case_id: f"volume of {case_id}" for case_id in latents}


def write(
    folder: Path,
    latents: Latents,
    *,
    dtype: str = "float32",
    rank: int = 0,
    world: int = 1,
    key: str = "key",
    shard_cases: int = 2,
) -> None:
    with LatentWriter(
        folder, dtype, key=key, sources=marks(latents), rank=rank, shard_cases=shard_cases
    ) as writer:
        for case_id in sorted(latents)[rank::world]:
            writer.add(case_id, *latents[case_id])


def merged(folder: Path, latents: Latents, dtype: str = "float32", key: str = "key") -> LatentCache:
    return merge_latents(
        folder, dtype, key=key, fingerprint="autoencoder", sources=marks(latents), train_ids=latents
    )


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("rank*.safetensors"))


def test_float32_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    latents = random_latents(5)
    write(tmp_path, latents)
    merged(tmp_path, latents)
    cache = LatentCache.open(tmp_path, Latent(channels=3, size=[4, 5, 2]))
    assert cache.ids == tuple(sorted(latents))
    assert len(shards(tmp_path)) == 3
    for case_id, (mean, log_sigma) in latents.items():
        read_mean, read_log_sigma = cache.read(case_id)
        assert torch.equal(read_mean, mean)
        assert torch.equal(read_log_sigma, log_sigma)


def test_float32_is_read_in_place_and_writing_to_it_stays_private(tmp_path: Path) -> None:
    latents = random_latents(1)
    write(tmp_path, latents)
    cache = merged(tmp_path, latents)
    first, second = cache.read("case-00")[0], cache.read("case-00")[0]
    assert first.data_ptr() == second.data_ptr()
    first.zero_()
    assert torch.equal(LatentCache.open(tmp_path).read("case-00")[0], latents["case-00"][0])


def test_bfloat16_rounds_by_half_a_unit_in_the_last_place(tmp_path: Path) -> None:
    latents = random_latents(3)
    write(tmp_path, latents, dtype="bfloat16")
    cache = merged(tmp_path, latents, dtype="bfloat16")
    for case_id, stored in latents.items():
        for original, read in zip(stored, cache.read(case_id), strict=True):
            assert read.dtype == torch.float32
            # 8 significant bits: relative error at most 2^-8.
            assert bool(((read - original).abs() <= original.abs() * 2**-8).all())
            assert not torch.equal(read, original)


def test_statistics_agree_with_numpy(tmp_path: Path) -> None:
    latents = random_latents(6)
    write(tmp_path, latents)
    found = merged(tmp_path, latents).statistics
    means = np.stack([mean.double().numpy() for mean, _ in latents.values()])
    noise = np.stack([np.exp(log_sigma.double().numpy()) ** 2 for _, log_sigma in latents.values()])
    # By the law of total variance: the spread of the means plus the mean of the spreads.
    assert found.mean == pytest.approx(means.mean(), rel=1e-12)
    assert found.std == pytest.approx(math.sqrt(means.var() + noise.mean()), rel=1e-12)
    assert found.noise_share == pytest.approx(noise.mean() / (means.var() + noise.mean()))
    assert found.scale == 1 / found.std
    axes = (0, 2, 3, 4)
    variance = means.var(axis=axes) + noise.mean(axis=axes)
    assert found.channel_mean == pytest.approx(means.mean(axis=axes), rel=1e-12)
    assert found.channel_std == pytest.approx(np.sqrt(variance), rel=1e-12)
    assert found.channel_noise_share == pytest.approx(noise.mean(axis=axes) / variance)


def test_statistics_describe_what_draws_look_like() -> None:
    latents = random_latents(4, seed=3)
    found = latent_statistics(latents.values())
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack(
        [
            mean + log_sigma.exp() * torch.randn(400, *SHAPE, generator=generator)
            for mean, log_sigma in latents.values()
        ]
    )
    assert found.std == pytest.approx(float(draws.double().std()), rel=5e-3)


def test_statistics_do_not_depend_on_the_order_at_all() -> None:
    pairs = list(random_latents(7).values())
    assert latent_statistics(pairs) == latent_statistics(reversed(pairs))


def test_statistics_survive_json_exactly() -> None:
    found = latent_statistics(random_latents(2).values())
    assert LatentStatistics.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_statistics_run_over_the_training_cases_only(tmp_path: Path) -> None:
    latents = random_latents(4)
    training = {case_id: latents[case_id] for case_id in ("case-01", "case-03")}
    write(tmp_path, latents)
    cache = merge_latents(
        tmp_path, "float32", key="key", fingerprint="a", sources=marks(latents), train_ids=training
    )
    assert cache.statistics == latent_statistics(training.values())
    assert cache.statistics.cases == 2


def test_constant_latents_are_refused() -> None:
    zeros = torch.zeros(SHAPE)
    with pytest.raises(UserError, match="do not vary"):
        latent_statistics([(zeros, zeros - 2000.0)])


def test_without_training_cases_the_statistics_say_so(tmp_path: Path) -> None:
    latents = random_latents(1)
    write(tmp_path, latents)
    cache = merge_latents(
        tmp_path, "float32", key="key", fingerprint="a", sources=marks(latents), train_ids=[]
    )
    with pytest.raises(UserError, match="no case has the split `train`"):
        _ = cache.statistics


def test_a_killed_run_keeps_whole_shards_and_skips_their_cases(tmp_path: Path) -> None:
    latents = random_latents(5)
    killed = LatentWriter(tmp_path, "float32", key="key", sources=marks(latents), shard_cases=2)
    for case_id in sorted(latents):
        killed.add(case_id, *latents[case_id])
    # Killed here: case-04 was only held. The second shard is cut short, a third was half written.
    first, second = shards(tmp_path)
    whole = (tmp_path / first).stat().st_mtime_ns
    cut = tmp_path / second
    cut.write_bytes(cut.read_bytes()[:-7])
    half = tmp_path / ".partial-abc.safetensors"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))

    resumed = LatentWriter(tmp_path, "float32", key="key", sources=marks(latents), shard_cases=2)
    assert resumed.done == {"case-00", "case-01"}
    assert shards(tmp_path) == [first]
    with resumed:
        # What is done is skipped: these zeros must not replace it.
        resumed.add("case-00", torch.zeros(SHAPE), torch.zeros(SHAPE))
        for case_id in ("case-02", "case-03", "case-04"):
            resumed.add(case_id, *latents[case_id])
    cache = merged(tmp_path, latents)
    assert (tmp_path / first).stat().st_mtime_ns == whole
    assert all(torch.equal(cache.read(c)[0], latents[c][0]) for c in latents)
    assert not list(tmp_path.glob(".partial-*"))


def test_an_interrupt_keeps_what_was_encoded(tmp_path: Path) -> None:
    latents = random_latents(3)

    def encode_one_and_stop() -> None:
        with LatentWriter(tmp_path, "float32", key="key", sources=marks(latents)) as writer:
            writer.add("case-00", *latents["case-00"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_one_and_stop()
    assert LatentWriter(tmp_path, "float32", key="key", sources=marks(latents)).done == {"case-00"}


def test_shards_of_other_settings_or_of_withdrawn_cases_are_removed(tmp_path: Path) -> None:
    latents = random_latents(4)
    write(tmp_path, latents)
    assert LatentWriter(tmp_path, "float32", key="other", sources=marks(latents)).done == set()
    assert shards(tmp_path) == []
    write(tmp_path, latents)
    kept = {case_id: latents[case_id] for case_id in sorted(latents)[1:]}
    assert LatentWriter(tmp_path, "float32", key="key", sources=marks(kept)).done == {
        "case-02",
        "case-03",
    }
    assert len(shards(tmp_path)) == 1


def test_only_shards_with_a_changed_volume_are_encoded_again(tmp_path: Path) -> None:
    latents = random_latents(6)
    write(tmp_path, latents)
    before = merged(tmp_path, latents).key
    changed = marks(latents) | {"case-02": "another volume"}
    writer = LatentWriter(tmp_path, "float32", key="key", sources=changed)
    assert writer.done == {"case-00", "case-01", "case-04", "case-05"}
    with writer:
        for case_id in ("case-02", "case-03"):
            writer.add(case_id, *latents[case_id])
    cache = merge_latents(
        tmp_path, "float32", key="key", fingerprint="a", sources=changed, train_ids=latents
    )
    assert cache.key != before


def test_a_rank_leaves_other_ranks_files_alone(tmp_path: Path) -> None:
    latents = random_latents(4)
    write(tmp_path, latents, rank=1, world=2)
    before = shards(tmp_path)
    LatentWriter(tmp_path, "float32", key="other", sources=marks(latents), rank=0)
    assert shards(tmp_path) == before


def test_ranks_together_equal_one(tmp_path: Path) -> None:
    latents = random_latents(7)
    write(tmp_path / "one", latents)
    one = merged(tmp_path / "one", latents)
    for rank in (1, 0):
        write(tmp_path / "two", latents, rank=rank, world=2)
    two = merged(tmp_path / "two", latents)
    assert one.ids == two.ids
    assert one.statistics == two.statistics
    for case_id in one.ids:
        for a, b in zip(one.read(case_id), two.read(case_id), strict=True):
            assert torch.equal(a, b)


def test_a_rank_too_few_is_an_error_that_lists_its_cases(tmp_path: Path) -> None:
    latents = random_latents(4)
    write(tmp_path, latents, rank=0, world=2)
    with pytest.raises(UserError, match=r"2 cases are not encoded yet: case-01, case-03"):
        merged(tmp_path, latents)


def test_missing_cases_are_listed_with_the_next_command(tmp_path: Path) -> None:
    latents = random_latents(2)
    write(tmp_path, latents)
    cache = merged(tmp_path, latents)
    with pytest.raises(UserError) as caught:
        cache.require(["case-00", "lost-1", "lost-2"])
    assert "2 cases have no latent" in str(caught.value)
    assert "lost-1, lost-2" in str(caught.value)
    assert "next:     voxella encode" in str(caught.value)
    with pytest.raises(UserError, match="lost-1"):
        cache.read("lost-1")


def test_another_shape_or_dtype_than_the_recipes_is_refused(tmp_path: Path) -> None:
    latents = random_latents(1)
    write(tmp_path, latents)
    merged(tmp_path, latents)
    with pytest.raises(UserError) as caught:
        LatentCache.open(tmp_path, Latent(channels=4, size=[4, 5, 2], dtype="bfloat16"))
    assert "shape (3, 4, 5, 2), the recipe (4, 4, 5, 2)" in str(caught.value)
    assert "dtype float32, the recipe bfloat16" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("{", "damaged"),
        ('{"format": 99}', "format 99; this version reads 2"),
    ],
)
def test_an_unusable_index_says_what_to_do(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        LatentCache.open(tmp_path)
    assert "voxella encode" in str(caught.value)


def test_a_case_or_shape_that_does_not_belong_is_a_mistake(tmp_path: Path) -> None:
    latents = random_latents(1)
    writer = LatentWriter(tmp_path, "float32", key="key", sources=marks(latents))
    with pytest.raises(ValueError, match="stranger"):
        writer.add("stranger", *latents["case-00"])
    with pytest.raises(ValueError, match="log sigma"):
        writer.add("case-00", torch.zeros(1, 2), torch.zeros(1, 3))


def test_workers_open_files_of_their_own(tmp_path: Path) -> None:
    latents = random_latents(2)
    write(tmp_path, latents)
    cache = merged(tmp_path, latents)
    expected = float(cache.read("case-01")[0].sum())
    # A spawned worker gets the object pickled, a forked one finds the parent's files open.
    assert float(pickle.loads(pickle.dumps(cache)).read("case-01")[0].sum()) == expected
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=lambda: sender.send(cache.read("case-01")[0].numpy().tolist()))
    worker.start()
    assert receiver.poll(20)
    assert np.array_equal(np.float32(receiver.recv()), latents["case-01"][0].numpy())
    worker.join(20)
    assert worker.exitcode == 0
