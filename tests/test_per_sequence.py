"""A frozen autoencoder of one channel over several sequences: latents stacked along channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from voxella.autoencoder.load import AutoencoderPlan, build_autoencoder, load_autoencoder
from voxella.autoencoder.tiling.autoencoder import TiledAutoencoder, Windows
from voxella.autoencoder.tiling.choice import tiled
from voxella.cache.latents import LatentCache
from voxella.cache.stage import LATENTS, encode
from voxella.case import Case, Manifest
from voxella.errors import UserError
from voxella.forecast.flops import count_autoencoder
from voxella.imaging.volume import write_volume
from voxella.ldm.build import build_model
from voxella.recipe.load import dump_recipe, load_recipe
from voxella.recipe.model import Recipe
from voxella.workspace.record import StageRecord

CPU = torch.device("cpu")
KL = {"name": "kl", "channels": [8, 8], "norm_groups": 4}


def recipe(weights: Path, *sequences: str, channels: int, stacked: bool = True) -> Recipe:
    block = {**KL, "weights": str(weights), **({"per_sequence": True} if stacked else {})}
    return Recipe.model_validate(
        {
            "name": "test",
            "data": {"sequences": list(sequences)},
            "autoencoder": block,
            "prepare": {"size": [16, 16, 8]},
            "latent": {"channels": channels, "size": [8, 8, 4]},
            "conditioner": {"name": "none"},
            "backbone": {"name": "maisi_unet", "channels": [8, 16], "attention": [False, False],
                         "head_channels": 8, "res_blocks": 1, "norm_groups": 4},
            "train": {"steps": 1},
            "deepspeed": {},
        }
    )  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights of a network of one channel, as another recipe may have trained them."""
    one = recipe(tmp_path / "absent", "t2w", channels=2)
    bare = one.model_copy(
        update={"autoencoder": one.autoencoder.model_copy(update={"weights": None})}
    )
    module = cast("nn.Module", build_autoencoder(AutoencoderPlan.of(bare)))
    generator = torch.Generator().manual_seed(5)
    drawn = {
        n: torch.randn(v.shape, generator=generator) * 0.3 for n, v in module.state_dict().items()
    }
    save_file(drawn, tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def prepared(folder: Path, *sequences: str, cases: int = 3) -> Path:
    generator = np.random.default_rng(3)
    made = []
    for number in range(cases):
        images = {}
        for sequence in ("t2w", "adc", "hbv"):
            images[sequence] = f"images/c{number}_{sequence}.nii.gz"
            voxels = generator.random((16, 16, 8), dtype=np.float32)
            write_volume(folder / images[sequence], voxels, np.eye(4))
        kept = {name: path for name, path in images.items() if name in sequences}
        made.append(
            Case.model_validate(
                {"id": f"c{number}", "patient": f"p{number}", "images": kept, "split": "train",
                 "extra": {"spacing_mm": [1.0, 1.0, 1.0]}}
            )
        )  # fmt: skip
    Manifest(folder, made).write()
    StageRecord(folder, "prepare", {"test": list(sequences)}).complete()
    return folder


def encoded(wanted: Recipe, root: Path) -> LatentCache:
    folder = prepared(root / "prepared", *wanted.data.sequences)
    encode(wanted, folder, folder, root, None, device="cpu")
    return LatentCache.open(root / LATENTS, wanted.latent)


@pytest.mark.parametrize("window", [None, (40, 16, 8)])
def test_two_sequences_are_two_encodings_of_one_stacked_to_the_bit(
    weights: Path, window: tuple[int, ...] | None
) -> None:
    plan = AutoencoderPlan.of(recipe(weights, "t2w", "adc", channels=4))
    coder = load_autoencoder(plan)
    both = TiledAutoencoder(coder.model, Windows(window, window), passes=plan.passes)
    alone = TiledAutoencoder(coder.model, Windows(window, window))
    images = torch.rand(2, 2, 48, 16, 8, generator=torch.Generator().manual_seed(1))
    mean, log_sigma = both.encode(images)
    first, second = alone.encode(images[:, :1]), alone.encode(images[:, 1:])
    assert mean.shape == (2, 4, 24, 8, 4)
    assert torch.equal(mean, torch.cat([first[0], second[0]], dim=1))
    sigmas = [cast("Tensor", sigma) for sigma in (first[1], second[1])]
    assert torch.equal(cast("Tensor", log_sigma), torch.cat(sigmas, dim=1))
    assert both.latent_channels == 4
    parts = [alone.decode(mean[:, :2]), alone.decode(mean[:, 2:])]
    assert torch.equal(both.decode(mean), torch.cat(parts, dim=1))
    assert not torch.equal(parts[0], parts[1]), "or the order would not show"


def test_the_cache_of_two_sequences_is_two_caches_of_one(weights: Path, tmp_path: Path) -> None:
    caches = [
        encoded(recipe(weights, *names, channels=2 * len(names)), tmp_path / "-".join(names))
        for names in (("t2w", "adc"), ("t2w",), ("adc",))
    ]
    both, t2w, adc = caches
    for case_id in both.ids:
        for part in (0, 1):
            apart = torch.cat([t2w.read(case_id)[part], adc.read(case_id)[part]])
            assert torch.equal(both.read(case_id)[part], apart)
    assert both.statistics.channel_std == (*t2w.statistics.channel_std, *adc.statistics.channel_std)


def test_the_way_of_encoding_is_part_of_the_fingerprint(weights: Path) -> None:
    plans = [
        AutoencoderPlan.of(recipe(weights, "t2w", channels=2, stacked=stacked))
        for stacked in (True, False)
    ]
    assert load_autoencoder(plans[0]).fingerprint != load_autoencoder(plans[1]).fingerprint
    told = recipe(weights, "t2w", channels=2, stacked=False).model_dump(mode="json")
    assert "per_sequence" not in told["autoencoder"], "recipes and hashes from before stay"


def test_windows_are_chosen_for_one_pass_and_the_backbone_follows(weights: Path) -> None:
    wanted = recipe(weights, "t2w", "adc", "hbv", channels=6)
    plan = AutoencoderPlan.of(wanted)
    model = tiled(load_autoencoder(plan), plan, CPU, alone=True, quiet=True)
    assert model.passes == 3
    assert model.latent_channels == 6
    network: Any = build_model(wanted).backbone
    first = next(p for p in network.parameters() if p.ndim == 5)
    assert first.shape[1] == 6
    work = count_autoencoder(plan, wanted.prepare.size)
    single = recipe(weights, "t2w", channels=2)
    one = count_autoencoder(AutoencoderPlan.of(single), single.prepare.size)
    assert work is not None
    assert one is not None
    assert work == (3 * one[0], 3 * one[1])


SMOKE = Path(__file__).parents[1] / "recipes" / "ccella.yaml"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["data.sequences=[t2w,adc]", "autoencoder_training=null", "latent.channels=3"],
         r"latent.channels: received 3: 2 sequences are encoded one by one and stacked; "
         "expected: 2 x the channels of one, such as 6"),
        (["latent.channels=4"], "takes a frozen autoencoder, and autoencoder_training would train"),
        (["autoencoder_training=null", "autoencoder.per_sequense=true"],
         "kl has no such argument; did you mean per_sequence?"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_recipe(settings: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe(SMOKE, ["smoke"], ["autoencoder.per_sequence=true", *settings])
    assert told in str(caught.value)


def test_a_recipe_with_it_comes_back_equal_from_its_file(weights: Path, tmp_path: Path) -> None:
    settings = [
        "autoencoder.per_sequence=true",
        "autoencoder_training=null",
        f"autoencoder.weights={weights}",
        "data.sequences=[t2w,adc]",
        "latent.channels=4",
    ]
    read = load_recipe(SMOKE, ["smoke"], settings)
    (tmp_path / "recipe.yaml").write_text(dump_recipe(read))
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == read
    assert again.autoencoder.per_sequence
    assert "per_sequence" not in again.autoencoder.arguments
