"""Windows: what they cover, how near the untiled result they come, and when they are chosen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import tiny_recipe
from torch import Tensor, nn
from torch.nn import functional

from voxella.autoencoder.load import AutoencoderPlan, LoadedAutoencoder
from voxella.autoencoder.tiling import choice as tiling
from voxella.autoencoder.tiling import memory
from voxella.autoencoder.tiling.autoencoder import HALO, TiledAutoencoder, Windows
from voxella.autoencoder.tiling.windows import cut, window_sizes
from voxella.errors import UserError
from voxella_backbones.autoencoder_plugin import build_kl, build_maisi

CPU = torch.device("cpu")


def smooth(*size: int) -> Tensor:
    """Something like an image: brighter on one side, with texture, in [0, 1]."""
    noise = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    blurred = functional.avg_pool3d(noise, 3, 1, padding=1)
    ramp = torch.linspace(0, 1, size[0]).reshape(1, 1, -1, 1, 1)
    return (blurred + ramp) / 2


def network(build: Callable[..., Any], **sizes: Any) -> Any:
    torch.manual_seed(0)
    module = build(spatial_dims=3, in_channels=1, latent_channels=4, **sizes)
    return module.eval().requires_grad_(False)


def kl() -> Any:
    return network(build_kl, channels=[8, 8], norm_groups=4)


def apart(found: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Return the root mean square and the largest difference, in standard deviations."""
    error = (found - wanted) / wanted.std()
    return float(error.square().mean().sqrt()), float(error.abs().max())


@pytest.mark.parametrize(
    ("size", "window", "halo", "unit"),
    [((96,), (80,), 32, 4), ((64, 40, 8), (44, 40, 8), 16, 4), ((37, 20), (9, 12), 3, 1)],
)
def test_cores_cover_every_voxel_once_and_keep_their_halo(
    size: tuple[int, ...], window: tuple[int, ...], halo: int, unit: int
) -> None:
    covered = torch.zeros(size)
    for part in cut(size, window, halo=halo, unit=unit):
        covered[tuple(slice(*span) for span in part.core)] += 1
        for (first, last), (start, stop), n, w in zip(
            part.seen, part.core, size, window, strict=True
        ):
            assert last - first == w
            assert 0 <= first <= start < stop <= last <= n
            assert first % unit == start % unit == 0
            assert start == 0 or start - first >= halo
            assert stop == n or last - stop >= halo
    assert bool((covered == 1).all())


def test_window_sizes_shrink_from_the_whole_to_a_core_as_wide_as_the_halo() -> None:
    sizes = list(window_sizes((256, 256, 128), halo=32, unit=4))
    assert sizes[:3] == [(256, 256, 128), (192, 256, 128), (192, 192, 128)]
    assert sizes[-1] == (96, 96, 96)
    volumes = [a * b * c for a, b, c in sizes]
    assert volumes == sorted(set(volumes), reverse=True)


def test_the_small_autoencoder_in_windows_is_the_small_autoencoder() -> None:
    """The halo is as wide as what its voxels see: nothing is left but rounding."""
    whole = kl()
    image = smooth(64, 8, 8)
    mean, log_sigma = whole.encode(image)
    tiled = TiledAutoencoder(whole, Windows((44, 8, 8), (44, 8, 8)))
    assert len(cut((64, 8, 8), (44, 8, 8), halo=2 * HALO, unit=2)) == 3
    found = tiled.encode(image)
    assert found[1] is not None
    assert log_sigma is not None
    assert apart(found[0], mean)[1] < 1e-4
    assert apart(found[1], log_sigma)[1] < 1e-4
    assert apart(tiled.decode(mean), whole.decode(mean))[1] < 1e-4
    assert torch.equal(whole.encode(image)[0], mean), "the norms are their own again"
    assert not any("forward" in vars(layer) for layer in whole.modules())


def test_maisis_autoencoder_in_windows_is_within_the_stated_error() -> None:
    """Its voxels see 50 voxels far, the halo is 32: rms below 0.2 %, nowhere above 10 %."""
    whole = network(build_maisi, channels=[8, 8, 8], norm_groups=4, res_blocks=2)
    image = smooth(96, 8, 8)
    mean, log_sigma = whole.encode(image)
    tiled = TiledAutoencoder(whole, Windows((80, 8, 8), (80, 8, 8)))
    found = tiled.encode(image)
    assert found[1] is not None
    assert log_sigma is not None
    for ours, theirs in (
        (found[0], mean),
        (found[1], log_sigma),
        (tiled.decode(mean), whole.decode(mean)),
    ):
        rms, worst = apart(ours, theirs)
        assert rms < 2e-3
        assert worst < 0.1
    # Without shared norms it would be far off: the test can tell.
    parts = [whole.encode(image[:, :, start : start + 80])[0] for start in (0, 16)]
    naive = torch.cat([parts[0][:, :, :12], parts[1][:, :, 8:]], dim=2)
    assert apart(naive, mean)[0] > 0.02


def test_two_dimensions_and_a_batch() -> None:
    torch.manual_seed(0)
    whole: Any = build_kl(
        spatial_dims=2, in_channels=2, latent_channels=3, channels=[8, 8], norm_groups=4
    )
    whole.eval().requires_grad_(False)
    images = torch.rand(2, 2, 64, 12, generator=torch.Generator().manual_seed(1))
    tiled = TiledAutoencoder(whole, Windows((48, 12), None))
    assert apart(tiled.encode(images)[0], whole.encode(images)[0])[1] < 1e-4
    with pytest.raises(RuntimeError, match="not for training"):
        tiled.train().encode(images)


def test_the_memory_of_a_pass_is_known_without_running_it() -> None:
    class Steps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x + 1  # x and y
            z = torch.cat([y, y])  # x, y and twice as much
            del y
            return z[:1] * 2  # x, z and one more

    # At its peak four times the input, in the second line and in the last.
    volume = 10**6
    got = memory.pass_bytes(Steps(), (1, volume), CPU)
    assert got == pytest.approx(memory._MARGIN * 4 * 4 * volume, rel=1e-6)
    small, large = (memory.pass_bytes(kl().encode, (1, 1, n, 16, 16), CPU) for n in (16, 64))
    assert large == pytest.approx(4 * small, rel=0.01)


def test_the_memory_that_is_left_is_read_from_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    host = memory.available_bytes(CPU)
    total = next(
        int(row.split()[1]) * 1024
        for row in Path("/proc/meminfo").read_text().splitlines()
        if row.startswith("MemTotal:")
    )
    assert 2**20 < host <= total
    job = tmp_path / "job"
    job.mkdir()
    (job / "memory.max").write_text("1000000\n")
    (job / "memory.current").write_text("400000\n")
    (job / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    left = memory._left(job, "memory.max", "memory.current", "inactive_file")
    assert left == 1000000 - 400000 + 100000
    (job / "memory.max").write_text("max\n")
    assert memory._left(job, "memory.max", "memory.current", "inactive_file") == float("inf")
    monkeypatch.setattr(memory, "_group_bytes", lambda: 600000.0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.available_bytes(CPU) == 300000.0


def planned(
    free: float,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path | None = None,
    *overrides: str,
    batch_size: int = 1,
) -> TiledAutoencoder:
    monkeypatch.setattr(tiling, "available_bytes", lambda device: free)
    recipe = tiny_recipe("latent.size=[48,8,8]", "prepare.size=[96,16,16]", *overrides)
    coder = LoadedAutoencoder(kl(), "fingerprint")
    return tiling.tiled(coder, AutoencoderPlan.of(recipe), CPU, folder, batch_size=batch_size)


def test_windows_are_chosen_when_memory_is_short_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(1e12, monkeypatch).windows == Windows()
    assert capsys.readouterr().out == ""
    whole = memory.pass_bytes(kl().encode, (1, 1, 96, 16, 16), CPU)
    windows = planned(whole * 0.8, monkeypatch, tmp_path).windows
    assert windows.encode is not None
    assert memory.pass_bytes(kl().encode, (1, 1, *windows.encode), CPU) <= whole * 0.8
    assert "encoding in windows of " in capsys.readouterr().out
    # More memory or less: what was chosen holds, so that a resumed run goes on as it began.
    assert planned(1e12, monkeypatch, tmp_path).windows == windows
    written = json.loads((tmp_path / tiling.RECORD).read_text())
    assert (written["encode"], written["halo"]) == (list(windows.encode), HALO)
    # Nothing fits: the smallest there are, with a word.
    assert planned(1.0, monkeypatch).windows.encode == (48, 16, 16)
    assert "may exceed" in capsys.readouterr().out


def test_the_recipe_can_say_never_or_which(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(1.0, monkeypatch, None, "latent.tiling=never").windows == Windows()
    given = planned(1e12, monkeypatch, None, "latent.tiling=[64,16,16]").windows
    assert given == Windows((64, 16, 16), (64, 16, 16))
    whole = planned(1e12, monkeypatch, None, "latent.tiling=[96,16,16]").windows
    assert whole == Windows()
    for wrong in ("[32,16,16]", "[63,16,16]", "[64,16]"):
        with pytest.raises(UserError, match=r"multiples of 2 from 34, or as large") as caught:
            planned(1e12, monkeypatch, None, f"latent.tiling={wrong}")
        assert "does not suit volumes of [96, 16, 16]" in str(caught.value)


def test_as_many_volumes_are_decoded_together_as_memory_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def at_once(free: float, batch_size: int, *overrides: str, folder: Path | None = None) -> int:
        made = planned(free, monkeypatch, folder, *overrides, batch_size=batch_size)
        return made.decode_batch

    one, three = (memory.pass_bytes(kl().decode, (n, 4, 48, 8, 8), CPU) for n in (1, 3))
    assert [at_once(free, 4) for free in (one, three - 1, three, 10 * three)] == [1, 2, 3, 4]
    assert "decoding 3 of 4 volumes at a time: memory is too short" in capsys.readouterr().out
    assert at_once(float("inf"), 4) == 4
    # In windows, one at a time, though the batch may ask for more.
    assert planned(0.8 * one, monkeypatch, batch_size=4).windows.decode is not None
    assert at_once(0.8 * one, 4) == at_once(1e12, 4, "latent.tiling=[64,16,16]") == 1
    # What was chosen holds in its folder, for the batch size it was chosen for.
    assert at_once(three, 4, folder=tmp_path) == 3
    assert at_once(1e12, 4, folder=tmp_path) == at_once(one, 4, folder=tmp_path) == 3
    written = json.loads((tmp_path / tiling.RECORD).read_text())
    assert (written["batch_size"], written["decode_batch"], written["decode"]) == (4, 3, None)
    assert at_once(1e12, 1, folder=tmp_path) == 1
    assert at_once(1e12, 4, folder=tmp_path) == 3
    assert at_once(1e12, 5, folder=tmp_path) == 5
    # Whoever wants no windows has the batch cut all the same; and the record says for whom it is.
    never = tmp_path / "never"
    assert at_once(three, 4, "latent.tiling=never", folder=never) == 3
    assert at_once(1e12, 4, "latent.tiling=never", folder=never) == 3
    assert planned(0.8 * one, monkeypatch, never, batch_size=4).windows.decode is not None


def test_an_autoencoder_whose_memory_cannot_be_told_decodes_one_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def untraceable(*arguments: object) -> int:
        raise RuntimeError

    monkeypatch.setattr(tiling, "pass_bytes", untraceable)
    assert planned(float("inf"), monkeypatch, batch_size=4).decode_batch == 1
