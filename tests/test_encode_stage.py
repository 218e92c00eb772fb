"""The encode stage from end to end, on a tiny data set and a stub text encoder."""

from __future__ import annotations

import hashlib
import json
import shutil
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from voxella.cache.latents import LatentCache
from voxella.cache.stage import encode
from voxella.cache.text import TextCache
from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.imaging.augment import augmented, draw
from voxella.imaging.volume import write_volume
from voxella.plugins import registry
from voxella.recipe.augment import LatentAugment
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

CANARY = "Xanthochromic-canary"
REPORTS = {
    "c0": f"{CANARY} lesion in the left peripheral zone with restricted diffusion",
    "c1": "no lesion",
    "c2": None,
    "c3": "no lesion",
    "c4": "  \n",
}
WIDTH = 6


class StubAutoencoder(nn.Module):
    """Averages over 2 x 2 x 2; the sigma of each case depends on its mean."""

    factor = 2

    def __init__(self, latent_channels: int, gain: float) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.gain = nn.Parameter(torch.full((), gain))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = nn.functional.avg_pool3d(images, self.factor)
        weights = torch.arange(1.0, self.latent_channels + 1).reshape(1, -1, 1, 1, 1)
        mean = self.gain * weights.to(images.device) * pooled
        return mean, mean - 2

    def decode(self, latents: Tensor) -> Tensor:
        return nn.functional.interpolate(latents[:, :1] / self.gain, scale_factor=2.0)


class StubText:
    """One token per word and one at the end; features are a hash of the kept text."""

    width = WIDTH
    calls: list[int]

    def __init__(self, max_tokens: int, truncation: str, fails: bool, seed: int) -> None:
        self.max_tokens, self.truncation, self.fails = max_tokens, truncation, fails
        self.fingerprint = hashlib.sha256(f"{max_tokens}{truncation}{seed}".encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        if self.fails:
            raise ValueError(f"cannot encode {texts[0]} {texts[-1]}")
        self.calls.append(len(texts))
        return [self._one(text) for text in texts]

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) + 1 for text in texts]

    def _one(self, text: str) -> Tensor:
        words = [*text.split(), "</s>"]
        kept = words[: self.max_tokens] if self.truncation == "right" else words[-self.max_tokens :]
        seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) for word in kept]
        rows = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(rows)


def build_autoencoder(
    *, latent_channels: int, gain: float = 1.0, weights: Path | None = None
) -> StubAutoencoder:
    return StubAutoencoder(latent_channels, gain)


def build_text(
    *, max_tokens: int, truncation: str, padding: str, fails: bool = False, seed: int = 0
) -> StubText:
    return StubText(max_tokens, truncation, fails, seed)


@pytest.fixture(autouse=True)
def stubs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Admit the stubs; returns the sizes of the batches that the text encoder was given."""
    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("autoencoders", "stub"): build_autoencoder,
        ("text_encoders", "stub"): build_text,
    }
    real = registry.builder
    monkeypatch.setattr(
        registry, "builder", lambda kind, name: known.get((kind, name)) or real(kind, name)
    )
    calls: list[int] = []
    monkeypatch.setattr(StubText, "calls", calls, raising=False)
    return calls


def recipe(
    text: dict[str, Any] | None = None,
    latent: dict[str, Any] | None = None,
    gain: float = 1.0,
    **changes: Any,
) -> Recipe:
    block = {"encoder": {"name": "stub"}, "width": WIDTH, "max_tokens": 8, "dtype": "float32"}
    return Recipe.model_validate(
        {
            "name": "test",
            "autoencoder": {"name": "stub", "gain": gain, "weights": "given.pt"},
            "latent": {"channels": 2, "size": [4, 4, 2]} | (latent or {}),
            "text": block | (text or {}),
            "conditioner": {"name": "none"},
            "backbone": {"name": "maisi_unet"},
            "train": {"steps": 1},
            "deepspeed": {},
        }
        | changes
    )


class Data:
    """A data set with reports and its prepared volumes, in one folder."""

    def __init__(self, root: Path) -> None:
        self.dataset, self.prepared, self.work = root / "dataset", root / "prepared", root / "work"
        for case_id, text in REPORTS.items():
            if text is not None:
                path = self.dataset / "reports" / f"{case_id}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.write()

    def write(self, ids: Sequence[str] = tuple(REPORTS), train: int = 3) -> None:
        generator = np.random.default_rng(0)
        images = {
            case_id: generator.random((8, 8, 4), dtype=np.float32) for case_id in sorted(REPORTS)
        }
        imported, prepared = [], []
        for number, case_id in enumerate(ids):
            name = f"images/{case_id}_t2w.nii.gz"
            write_volume(self.prepared / name, images[case_id], np.eye(4))
            facts = {
                "id": case_id,
                "group": case_id,
                "images": {"t2w": name},
                "split": "train" if number < train else "test",
            }
            prepared.append(
                Case.model_validate(facts | {"extra": {"prepared_sha256": f"voxels {case_id}"}})
            )
            report = None if REPORTS[case_id] is None else f"reports/{case_id}.txt"
            imported.append(Case.model_validate(facts | {"report": report}))
        Manifest(self.prepared, prepared).write()
        Manifest(self.dataset, imported).write()
        StageRecord(self.prepared, "prepare", {"ids": list(ids)}).complete()

    def encode(self, wanted: Recipe, work: Path | None = None, **ranks: int) -> None:
        encode(wanted, self.prepared, self.dataset, work or self.work, None, device="cpu", **ranks)

    def latents(self) -> LatentCache:
        return LatentCache.open(self.work / "latents")

    def text(self) -> TextCache:
        return TextCache.open(self.work / "text")

    def volume(self, case_id: str) -> Tensor:
        generator = np.random.default_rng(0)
        images = {i: generator.random((8, 8, 4), dtype=np.float32) for i in sorted(REPORTS)}
        return torch.from_numpy(images[case_id])[None]


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def snapshot(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_latents_are_what_the_autoencoder_gives(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    data.encode(recipe(gain=3.0))
    cache = data.latents()
    assert cache.ids == tuple(REPORTS)
    for case_id in cache.ids:
        pooled = data.volume(case_id).reshape(4, 2, 4, 2, 2, 2).mean(dim=(1, 3, 5))
        expected = 3.0 * torch.stack([pooled, 2 * pooled])
        mean, log_sigma = cache.read(case_id)
        assert torch.allclose(mean, expected, atol=1e-6)
        assert torch.allclose(log_sigma, expected - 2, atol=1e-6)
    # Three training cases of five.
    means = torch.stack([cache.read(c)[0] for c in ("c0", "c1", "c2")]).double()
    noise = (2 * (means - 2)).exp().mean()
    std = float((means.var(correction=0) + noise).sqrt())
    assert cache.statistics.cases == 3
    assert cache.statistics.std == pytest.approx(std, rel=1e-6)
    told = capsys.readouterr().out
    assert f"scale {1 / std:.6g}" in told
    assert f"noise share sigma^2 {float(noise) / std**2:.2%}" in told
    assert "of rounding 0" in told
    assert "latents of 5 cases: 2.6 kB to write" in told  # 5 * (2 * 64 * 4 + 8) bytes
    facts = json.loads((data.work / "latents" / "stage.json").read_text())["facts"]
    assert facts["statistics"]["scale"] == cache.statistics.scale
    shards = (data.work / "latents").glob("*.safetensors")
    assert facts["bytes_per_case"] == round(sum(path.stat().st_size for path in shards) / 5)


def test_text_is_kept_once_at_true_length_and_truncation_is_counted(
    data: Data, capsys: pytest.CaptureFixture[str], stubs: list[int]
) -> None:
    data.encode(recipe())
    cache = data.text()
    assert sum(stubs) == 3  # "", "no lesion", and the long one; the blank file is the empty one
    assert [cache.length(i) for i in cache.ids] == [8, 3, 1, 3, 1]
    assert [cache.read(i)[1] for i in cache.ids] == [True, True, False, True, False]
    stub = build_text(max_tokens=8, truncation="right", padding="none")
    assert torch.equal(cache.read("c0")[0], stub.encode([REPORTS["c0"] or ""])[0])
    assert torch.equal(cache.empty, stub.encode([""])[0])
    assert cache.truncated == {"reports": 1, "tokens": 3}
    told = capsys.readouterr().out
    # The same words, and the same list, as of `voxella check`.
    assert "1 of 3 reports exceed 8 tokens; 3 of 17 tokens are cut from their end" in told
    listed = cache.folder / "cut_texts.csv"
    assert f"listed in {listed}" in told
    assert listed.read_text().splitlines() == ["id,text,tokens,cut", "c0,report,11,3"]
    assert "3 of 5 cases have a report, 2 distinct" in told


def test_truncation_can_keep_the_end(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    data.encode(recipe({"truncation": "left"}))
    stub = build_text(max_tokens=8, truncation="left", padding="none")
    assert torch.equal(data.text().read("c0")[0], stub.encode([REPORTS["c0"] or ""])[0])
    assert "cut from their beginning" in capsys.readouterr().out


def test_report_text_is_nowhere_but_in_the_features(
    data: Data, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data.encode(recipe())
    captured = capfd.readouterr()
    for words in (CANARY, "peripheral", "no lesion"):
        assert words not in captured.out + captured.err + caplog.text
        for path in data.work.rglob("*"):
            assert words not in path.name
            assert not path.is_file() or words.encode() not in path.read_bytes()


def test_a_failing_encoders_message_is_withheld(data: Data) -> None:
    with pytest.raises(RuntimeError) as caught:
        data.encode(recipe({"encoder": {"name": "stub", "fails": True}}))
    assert "ValueError" in str(caught.value)
    assert "in encode" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "no lesion" not in shown


def test_reports_that_cannot_be_read_are_named_and_not_quoted(data: Data) -> None:
    reports = data.dataset / "reports"
    (reports / "c0.txt").write_bytes(CANARY.encode() + b" \xff")
    (reports / "c1.txt").unlink()
    shutil.rmtree(data.prepared)
    with pytest.raises(UserError) as caught:
        data.encode(recipe())
    assert "case c0: report is not UTF-8 (byte 21)" in str(caught.value)
    assert "case c1: report cannot be read (FileNotFoundError)" in str(caught.value)
    # All problems at once: the latents' as well.
    assert "is not a finished prepared data set" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_what_is_up_to_date_is_left_alone(
    data: Data, capsys: pytest.CaptureFixture[str], stubs: list[int]
) -> None:
    data.encode(recipe())
    before = snapshot(data.work / "latents"), snapshot(data.work / "text")
    stubs.clear()
    capsys.readouterr()
    # Neither how latents are drawn nor how an encoder runs changes a cache.
    data.encode(recipe(latent={"draw": "mean", "scale": 2.0}))
    assert (snapshot(data.work / "latents"), snapshot(data.work / "text")) == before
    assert stubs == []
    told = capsys.readouterr().out
    assert "latents: up to date" in told
    assert "text: up to date" in told


def test_text_and_latents_are_independent(data: Data, stubs: list[int]) -> None:
    data.encode(recipe())
    latents, text = snapshot(data.work / "latents"), snapshot(data.work / "text")
    stubs.clear()
    data.encode(recipe(gain=2.0))
    assert snapshot(data.work / "text") == text
    assert snapshot(data.work / "latents") != latents
    assert stubs == []
    latents = snapshot(data.work / "latents")
    shutil.rmtree(data.work / "text")
    data.encode(recipe({"encoder": {"name": "stub", "seed": 1}}, gain=2.0))
    assert snapshot(data.work / "latents") == latents
    assert sum(stubs) == 3


def test_a_recipe_without_text_writes_none(data: Data) -> None:
    data.encode(recipe().model_copy(update={"text": None}))
    assert data.latents().ids == tuple(REPORTS)
    assert not (data.work / "text").exists()


def test_a_changed_report_encodes_what_it_must(data: Data, stubs: list[int]) -> None:
    data.encode(recipe())
    before = data.text()
    kept = before.read("c1")[0].clone()
    stubs.clear()
    (data.dataset / "reports" / "c0.txt").write_text("another text")
    data.encode(recipe())
    after = data.text()
    assert after.key != before.key
    assert after.length("c0") == 3
    assert torch.equal(after.read("c1")[0], kept)
    # Nothing of the withdrawn report stays: its features are in no shard.
    keys = json.loads((data.work / "text" / "index.json").read_text())["texts"]
    assert len(keys) == 3


def test_new_cases_and_splits_keep_what_is_encoded(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.write(ids=["c0", "c1", "c2"], train=3)
    data.encode(recipe())
    first = data.latents()
    encoded: list[int] = []
    real = StubAutoencoder.encode

    def counted(self: StubAutoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
        encoded.append(len(images))
        return real(self, images)

    monkeypatch.setattr(StubAutoencoder, "encode", counted)
    data.write(train=4)
    data.encode(recipe())
    assert sum(encoded) == 2
    second = data.latents()
    assert second.key != first.key
    assert second.statistics.cases == 4
    encoded.clear()
    data.write(train=2)
    data.encode(recipe())
    assert encoded == []
    assert data.latents().statistics.cases == 2


def test_ranks_together_equal_one(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.encode(recipe(), tmp_path / "one")
    data.encode(recipe(), rank=0, world=2)
    assert not (data.work / "latents" / "index.json").exists()
    assert "latents: 2 cases are left to other ranks: c1, c3" in capsys.readouterr().out
    data.encode(recipe(), rank=1, world=2)
    assert capsys.readouterr().out == ""
    data.encode(recipe(), rank=0, world=2)
    one, two = LatentCache.open(tmp_path / "one" / "latents"), data.latents()
    assert one.statistics == two.statistics
    assert one.key == two.key
    for case_id in one.ids:
        for a, b in zip(one.read(case_id), two.read(case_id), strict=True):
            assert torch.equal(a, b)
    text_one, text_two = TextCache.open(tmp_path / "one" / "text"), data.text()
    assert text_one.key == text_two.key
    assert all(torch.equal(text_one.read(i)[0], text_two.read(i)[0]) for i in text_one.ids)


def test_a_latent_of_another_shape_is_refused_with_the_numbers(data: Data) -> None:
    with pytest.raises(UserError) as caught:
        data.encode(recipe(latent={"size": [8, 4, 2]}))
    told = str(caught.value)
    assert "a volume of (1, 8, 8, 4) gives a latent of (2, 4, 4, 2)" in told
    assert "factor 2" in told
    assert "latent.size [8, 4, 2]" in told
    assert "--set latent.size=[4, 4, 2]" in told


def test_a_latent_that_is_not_finite_names_the_case(data: Data) -> None:
    with pytest.raises(UserError, match="case c0: its latent is not finite"):
        data.encode(recipe(gain=float("nan")))


def test_a_text_width_that_differs_is_refused(data: Data) -> None:
    with pytest.raises(UserError) as caught:
        data.encode(recipe({"width": 7}))
    assert "features 6 wide, the recipe's text.width is 7" in str(caught.value)
    assert "--set text.width=6" in str(caught.value)


def test_random_weights_are_refused(data: Data) -> None:
    wanted = recipe(autoencoder={"name": "stub"})
    with pytest.raises(UserError, match="neither weights nor a training block"):
        data.encode(wanted)
    wanted = recipe(autoencoder_training={"steps": 1})
    with pytest.raises(UserError, match="is not trained: no folder was given"):
        data.encode(wanted)


def test_with_a_trained_autoencoder_its_weights_are_used(data: Data, tmp_path: Path) -> None:
    trained = tmp_path / "autoencoder"
    trained.mkdir()
    save_file({"gain": torch.tensor(5.0)}, trained / "model.safetensors")
    wanted = recipe(autoencoder_training={"steps": 1})
    encode(wanted, data.prepared, data.dataset, data.work, trained, device="cpu")
    five = data.latents().read("c0")[0].clone()
    data.encode(recipe(gain=5.0))
    assert torch.equal(data.latents().read("c0")[0], five)


VARIED = {"variations": 2, "augment": {"probability": 1, "noise": {"probability": 1}}}


def test_variations_of_training_cases_are_cached_beside_them(
    data: Data, capsys: pytest.CaptureFixture[str]
) -> None:
    data.encode(recipe(gain=3.0), data.work / "plain")
    capsys.readouterr()
    data.encode(recipe(gain=3.0, latent=VARIED))
    assert "latents: 5 cases and 6 variations" in capsys.readouterr().out
    cache, plain = data.latents(), LatentCache.open(data.work / "plain" / "latents")
    assert cache.ids == plain.ids == tuple(sorted(REPORTS))
    assert (cache.variations, plain.variations) == (2, 0)
    assert cache.key != plain.key
    assert (cache.statistics.cases, plain.statistics.cases) == (9, 3)
    for case_id in cache.ids:
        assert torch.equal(cache.mean(case_id), plain.mean(case_id))
        assert len(cache.entries(case_id)) == (3 if case_id in ("c0", "c1", "c2") else 1)
    settings = LatentAugment.model_validate(VARIED["augment"])
    known = json.loads((data.work / "latents" / "index.json").read_text())["cases"]
    for number, entry in enumerate(cache.entries("c1")[1:], start=1):
        change = draw(settings, 3, seed=0, case_id="c1", epoch=number)
        assert not change.flip, "reports name sides"
        image = augmented(data.volume("c1"), change, (1.0, 1.0, 1.0))
        expected = StubAutoencoder(2, 3.0).encode(image[None])[0][0].detach()
        torch.testing.assert_close(cache.mean(entry), expected)
        assert known[entry]["change"] == change.as_json()
    with pytest.raises(UserError, match="have variations 2, the recipe 0"):
        LatentCache.open(data.work / "latents", recipe().latent)


def test_variations_are_made_again_where_they_change_and_cases_are_kept(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    real = StubAutoencoder.encode

    def counted(self: StubAutoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
        encoded.append(len(images))
        return real(self, images)

    monkeypatch.setattr(StubAutoencoder, "encode", counted)
    data.encode(recipe())
    encoded.clear()  # five cases, and a look at what memory one takes
    first = data.latents().key
    data.encode(recipe(latent=VARIED))
    assert sum(encoded) == 6
    second = data.latents().key
    data.encode(recipe(latent=VARIED))
    assert sum(encoded) == 6
    data.encode(recipe(latent=VARIED, seed=1))
    assert sum(encoded) == 6 + 6
    third = data.latents().key
    data.encode(recipe(latent=VARIED | {"augment": {"zoom": [0.5, 0.6]}}, seed=1))
    assert len({first, second, third, data.latents().key}) == 4
    data.encode(recipe())
    assert data.latents().key == first


def test_variations_are_the_same_on_any_number_of_ranks(data: Data, tmp_path: Path) -> None:
    wanted = recipe(latent=VARIED)
    data.encode(wanted, tmp_path / "one")
    for rank in (0, 1, 0):
        data.encode(wanted, rank=rank, world=2)
    one, two = LatentCache.open(tmp_path / "one" / "latents"), data.latents()
    assert one.key == two.key
    for case_id in one.ids:
        for entry in one.entries(case_id):
            assert torch.equal(one.mean(entry), two.mean(entry))
