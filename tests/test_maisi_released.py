"""MAISI's own denoisers: their parameters, their tables and their flow, held to MONAI's classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_monai import monai_unet
from torch import Tensor

from voxella.conditioning import Conditioning
from voxella.errors import UserError
from voxella_backbones.maisi_unet import MaisiUNet
from voxella_backbones.plugin import build_maisi_unet
from voxella_backbones.released import convert_released_state_dict

SIZES: dict[str, Any] = {
    "channels": [8, 16],
    "attention": [False, True],
    "head_channels": 4,
    "res_blocks": 1,
    "norm_groups": 4,
}
REGIONS = {"top_region": 4, "bottom_region": 4, "spacing": 3}
BATCH = 3


def ours(vectors: dict[str, int], dims: int = 3, **changes: Any) -> MaisiUNet:
    module = build_maisi_unet(
        spatial_dims=dims,
        in_channels=2,
        out_channels=2,
        context_dim=None,
        vectors=vectors,
        **(SIZES | changes),
    )
    assert isinstance(module, MaisiUNet)
    module.eval()
    return module


def given(dims: int = 3) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(BATCH, 2, *(4,) * dims, generator=generator)
    told = {name: torch.randn(BATCH, n, generator=generator) for name, n in REGIONS.items()}
    return x, torch.tensor([7.0, 412.5, 999.0]), told


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("resblock_updown", [False, True])
@pytest.mark.parametrize("include_fc", [False, True])
def test_residual_blocks_and_projections_are_monais(
    dims: int, resblock_updown: bool, include_fc: bool
) -> None:
    flags = {"resblock_updown": resblock_updown, "include_fc": include_fc}
    theirs, mine = (
        monai_unet(dims=dims, **flags),
        ours({"spacing": 3}, dims, **flags),
    )
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x, steps, told = given(dims)
    expected = theirs(x, steps, spacing_tensor=told["spacing"])
    assert expected.std() > 1e-2
    made = mine(x, steps, Conditioning(vectors={"spacing": told["spacing"]}))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_body_regions_are_vectors() -> None:
    flags = {"include_top_region_index_input": True, "include_bottom_region_index_input": True}
    theirs, mine = monai_unet(**flags), ours(REGIONS)
    mine.load_state_dict(convert_released_state_dict(theirs.state_dict()), strict=True)
    x, steps, told = given()
    expected = theirs(
        x,
        steps,
        top_region_index_tensor=told["top_region"],
        bottom_region_index_tensor=told["bottom_region"],
        spacing_tensor=told["spacing"],
    )
    made = mine(x, steps, Conditioning(vectors=told))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_the_modality_is_looked_up_and_added() -> None:
    theirs = monai_unet(num_class_embeds=12, include_fc=True, resblock_updown=True)
    vectors = {"modality": 2, "spacing": 3}
    table: dict[str, Any] = {
        "num_class_embeds": 12,
        "class_vector": "modality",
        "class_rows": [1, 9],
    }
    table["class_unknown"] = 0
    mine = ours(vectors, include_fc=True, resblock_updown=True, **table)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x, steps, told = given()
    # Of the third it is not known.
    indicators = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    expected = theirs(
        x, steps, class_labels=torch.tensor([1, 9, 0]), spacing_tensor=told["spacing"]
    )
    said = {"modality": indicators, "spacing": told["spacing"]}
    made = mine(x, steps, Conditioning(vectors=said))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    other = Conditioning(vectors=said | {"modality": indicators.flip(1)})
    assert (mine(x, steps, other) - made).abs().max() > 1e-3


def test_a_flow_of_maisi_is_told_its_own_time_and_answers_with_ours_sign() -> None:
    theirs, mine = monai_unet(), ours({"spacing": 3}, maisi_flow=True)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    x, steps, told = given()
    # Theirs is the velocity towards the data, at s = t / 1000; ours from it, at s = (t + 1) / 1000.
    expected = -theirs(x, steps + 1, spacing_tensor=told["spacing"])
    made = mine(x, steps, Conditioning(vectors={"spacing": told["spacing"]}))
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"num_class_embeds": 12}, "class_vector is None, num_class_embeds 12"),
        ({"class_vector": "spacing"}, "num_class_embeds None"),
        ({"num_class_embeds": 12, "class_vector": "age"}, "class_vector is 'age'"),
        ({"num_class_embeds": 2, "class_vector": "spacing"}, "a table of 2 rows"),
        (
            {"num_class_embeds": 3, "class_vector": "spacing", "class_unknown": 3},
            "class_unknown 3 of a table of 3 rows",
        ),
        (
            {"num_class_embeds": 9, "class_vector": "spacing", "class_rows": [1]},
            "a row for each of the 3 values of spacing",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ours({"spacing": 3}, **table)
