"""Conditioners of latent diffusion: the text's own tokens, and a class as a token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import tiny_recipe
from torch import Tensor

import voxella
from voxella.errors import UserError
from voxella.testing.runner import run_contract
from voxella_conditioners.class_token import ClassToken
from voxella_conditioners.plugin import class_token, cross_attention
from voxella_conditioners.raw_tokens import RawTokens

STEPS = torch.tensor([3, 900])


def _tokens(**changes: Any) -> RawTokens:
    module = cross_attention(text_dim=6, **changes)
    assert isinstance(module, RawTokens)
    return module


def _classes(classes: int = 4, **changes: Any) -> ClassToken:
    torch.manual_seed(0)
    module = class_token(num_classes=classes, **changes)
    assert isinstance(module, ClassToken)
    return module


@pytest.mark.parametrize("name", ["cross_attention", "class_token"])
def test_it_holds_its_contract(name: str) -> None:
    results = list(run_contract("conditioners", name))
    assert [(r.check, r.message) for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 10


def test_tokens_pass_as_they_are() -> None:
    module = _tokens()
    assert (module.context_dim, module.vector_sizes) == (6, {})
    text, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    told = module(timesteps=STEPS, text_features=text, text_mask=mask)
    assert told.context is text
    assert told.context_mask is mask
    assert list(module.parameters()) == []


def test_unmasked_is_for_texts_of_one_length() -> None:
    module = _tokens(masked=False)
    text = torch.randn(2, 5, 6)
    told = module(timesteps=STEPS, text_features=text, text_mask=None)
    assert told.context is text
    assert told.context_mask is None
    with pytest.raises(UserError, match=r"differ in length\n.*text\.padding=max"):
        module(timesteps=STEPS, text_features=text, text_mask=torch.ones(2, 5).bool())


def test_the_class_table_is_as_large_as_released() -> None:
    module = _classes()
    assert sum(parameter.numel() for parameter in module.parameters()) == 2_560
    assert module.context_dim == 512


def test_each_class_has_its_row_and_an_unknown_one_the_last() -> None:
    module = _classes(3, width=8)
    table = module.embedding.weight
    label = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    told = module(timesteps=STEPS, label=label)
    assert told.context is not None
    assert told.context.shape == (2, 1, 8)
    torch.testing.assert_close(told.context[:, 0], table[[1, 3]], rtol=0, atol=0)


def _released(rows: int, width: int) -> dict[str, Tensor]:
    return {
        "cond_stage_model.embedding.weight": torch.randn(rows, width),
        "model.diffusion_model.out.2.bias": torch.zeros(3),
    }


def test_the_table_of_a_released_checkpoint_is_taken(tmp_path: Path) -> None:
    state = _released(5, 8)
    torch.save({"state_dict": state}, tmp_path / "class.ckpt")
    module = _classes(width=8, weights=tmp_path / "class.ckpt")
    assert torch.equal(module.embedding.weight, state["cond_stage_model.embedding.weight"])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (_released(1001, 8), r"one of shape \(1001, 8\)"),  # ImageNet's
        ({"embedding.weight": torch.zeros(5, 8)}, "no class embedding"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, state: dict[str, Tensor], message: str) -> None:
    torch.save({"state_dict": state}, tmp_path / "class.ckpt")
    with pytest.raises(UserError, match=message):
        _classes(width=8, weights=tmp_path / "class.ckpt")


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="class_token: width=0"):
        _classes(width=0)
    without: Any = None
    with pytest.raises(UserError, match="cross_attention reads reports, and the recipe has no"):
        cross_attention(text_dim=without)


def test_a_dropped_label_reaches_the_conditioner_as_unknown() -> None:
    recipe = tiny_recipe(
        "conditioner=null", "conditioner={name: class_token, width: 8}", "vectors=[]", name="base"
    )
    model = voxella.build_model(recipe)
    table = model.conditioner.get_parameter("embedding.weight")
    told = model.condition(
        timesteps=STEPS,
        label=torch.tensor([1, 1]),
        drop_label=torch.tensor([False, True]),
    )
    assert told.context is not None
    assert torch.equal(told.context[:, 0], table[[1, 2]]), "the second case sees the null class"
