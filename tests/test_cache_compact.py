"""Few bits a value: the error is bounded and told, and a documented setting meets its size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentCache, LatentWriter, bytes_per_case
from voxella.cache.shards import ShardWriter
from voxella.cache.storage import BLOCK, TEXT_STORAGE, pack, packed_bytes, unpack
from voxella.cache.text import CaseText, TextCache, TextWriter, merge_text, text_key
from voxella.recipe.model import Text

# Of 5,071 training cases of the paper 3,701 have a report. For each case its released code writes
# 512 tokens of 4,096 features and one latent of 4 x 64 x 64 x 32, all in float32.
CASES, REPORTS = 5071, 3701
PAPER_LATENT = (4, 64, 64, 32)
RELEASED = 4 * (512 * 4096 + math.prod(PAPER_LATENT))


def restored(values: Tensor, bits: int) -> Tensor:
    return unpack(pack(values, bits), values.numel(), bits).reshape(values.shape)


def bound(values: Tensor, bits: int) -> Tensor:
    """Half a step of each value's block, computed apart: low is rounded to 8 bits, so is step."""
    flat = values.double().flatten().numpy()
    blocks = np.split(flat, range(BLOCK, len(flat), BLOCK))
    steps = []
    for block in blocks:
        low, high = block.min(), block.max()
        step = (high - low + abs(low) * 2**-7) / (2**bits - 1) * (1 + 2**-7)
        steps += [step / 2 + 1e-6 * np.abs(block).max() + 1e-38] * len(block)
    return torch.tensor(steps).reshape(values.shape)


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("shift", [0.0, -3.0, 1e4])
def test_a_value_comes_back_within_half_a_step(bits: int, shift: float) -> None:
    generator = torch.Generator().manual_seed(bits)
    values = torch.randn(7, 61, generator=generator) * 2.5 + shift
    error = (restored(values, bits).double() - values.double()).abs()
    assert bool((error <= bound(values, bits)).all())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=300
    ),
    st.sampled_from([4, 6, 8]),
)
def test_no_value_whatever_strays_further(numbers: list[float], bits: int) -> None:
    values = torch.tensor(numbers)
    error = (restored(values, bits).double() - values.double()).abs()
    assert bool((error <= bound(values, bits)).all())
    assert pack(values, bits).numel() == packed_bytes(len(numbers), bits)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_every_code_keeps_its_place(bits: int) -> None:
    # 2^bits evenly spread values are exactly the codes, in an order that no plane repeats.
    levels = 2**bits
    order = torch.randperm(3 * BLOCK, generator=torch.Generator().manual_seed(0)) % levels
    order[::BLOCK], order[1::BLOCK] = 0, levels - 1
    assert torch.equal(restored(order.float(), bits), order.float())


def test_features_come_back_compact_and_at_their_length(tmp_path: Path) -> None:
    text = Text.model_validate({"encoder": {"name": "stub"}, "width": 20, "dtype": "compact"})
    generator = torch.Generator().manual_seed(0)
    texts = {
        text_key(t, "f"): torch.randn(n, 20, generator=generator) for t, n in (("", 1), ("a", 9))
    }
    with TextWriter(tmp_path, "compact", key="key", texts=texts) as writer:
        for key, features in texts.items():
            writer.add(key, features)
    case = CaseText(text_key("a", "f"), has_report=True, tokens=9, cut=0)
    merge_text(tmp_path, text, key="key", fingerprint="f", cases={"c": case})
    cache = TextCache.open(tmp_path, text)
    found, wanted = cache.read("c")[0], texts[case.key]
    assert found.dtype == torch.bfloat16
    assert cache.length("c") == len(found) == 9
    # The spread of 128 normal numbers is about 5; half a step of 63 and half a unit of bfloat16.
    assert float((found.float() - wanted).abs().max()) < 0.06
    assert cache.empty.shape == (1, 20)


def test_the_rounding_of_latents_is_measured(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    means = {f"c{k}": torch.randn(3, 6, 5, 4, generator=generator) * (k + 1) for k in range(3)}
    sigma = {i: torch.randn(3, 6, 5, 4, generator=generator) * 0.3 - 1 for i in means}
    sources = dict.fromkeys(means, "mark")
    for dtype in ("float32", "bfloat16", "compact"):
        folder = tmp_path / dtype
        with LatentWriter(folder, dtype, key="k", sources=sources) as writer:
            for i in means:
                writer.add(i, means[i], sigma[i])
        merge_latents(folder, dtype, key="k", fingerprint="a", sources=sources, train_ids=means)
        cache = LatentCache.open(folder)
        read = {i: cache.read(i) for i in means}
        assert all(torch.equal(cache.mean(i), read[i][0]) for i in means)
        lost = np.mean([(read[i][0] - means[i]).double().square().numpy() for i in means])
        expected = lost / cache.statistics.std**2
        assert cache.statistics.rounding_share == pytest.approx(expected, rel=1e-9, abs=0)
        limit = {"float32": 0.0, "bfloat16": 1e-5, "compact": 1e-4}[dtype]
        assert cache.statistics.rounding_share <= limit
        assert cache.shape == (3, 6, 5, 4)
        if dtype == "compact":
            spread = max(float((read[i][1] - sigma[i]).abs().max()) for i in means)
            assert 0 < spread < 0.08  # a block of 360 values of +-0.9 in 15 steps


def test_the_compact_setting_is_a_fifth_whatever_the_length_of_the_reports() -> None:
    longest = TEXT_STORAGE["compact"].nbytes((512, 4096))
    latents = bytes_per_case("compact", PAPER_LATENT)
    # The names in a shard and its index, generously: a kilobyte a case.
    average = latents + longest * REPORTS / CASES + longest / CASES + 1000
    assert average <= RELEASED / 5
    # Padded as released, or with bfloat16, it is not: this is not a limit that anything meets.
    assert latents + TEXT_STORAGE["bfloat16"].nbytes((400, 4096)) * REPORTS / CASES > RELEASED / 5
    assert bytes_per_case("bfloat16", PAPER_LATENT) >= RELEASED / 5


def test_time_ends_a_shard_too(tmp_path: Path) -> None:
    wanted = dict.fromkeys("abc", "mark")
    patient = ShardWriter(tmp_path / "patient", key="k", wanted=wanted)
    hasty = ShardWriter(tmp_path / "hasty", key="k", wanted=wanted, shard_seconds=0)
    for writer in (patient, hasty):
        for entry in wanted:
            writer.add(entry, {"x": torch.zeros(2)})
    assert patient.done == set()
    assert hasty.done == set(wanted)
