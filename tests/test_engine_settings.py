"""The deepspeed: block is checked before anything is built."""

from typing import Any

import pytest
from tiny_run import REPOSITORY

from voxella.engine.settings import autocast_dtype, deepspeed_config, zero_stage
from voxella.errors import UserError
from voxella.recipe.load import load_recipe


def checked(block: dict[str, Any], world: int = 1, on_cpu: bool = True) -> dict[str, Any]:
    return deepspeed_config(block, world=world, on_cpu=on_cpu)


def test_micro_batch_follows_from_the_global_batch() -> None:
    config = checked({"train_batch_size": 12, "gradient_accumulation_steps": 3}, world=2)
    assert config["train_micro_batch_size_per_gpu"] == 2
    assert config["train_batch_size"] == 12


def test_accumulation_follows_from_the_micro_batch() -> None:
    config = checked({"train_batch_size": 16, "train_micro_batch_size_per_gpu": 2}, world=4)
    assert config["gradient_accumulation_steps"] == 2
    with pytest.raises(UserError, match="does not divide"):
        checked({"train_batch_size": 16, "train_micro_batch_size_per_gpu": 3})


@pytest.mark.parametrize(
    ("profile", "world", "micro", "accumulation"),
    [("gpu24", 1, 1, 16), ("gpu24", 8, 1, 2), ("gpu80", 1, 4, 4), ("gpu80", 4, 4, 1)],
)
def test_the_gpu_profiles_cut_the_papers_batch(
    profile: str, world: int, micro: int, accumulation: int
) -> None:
    recipe = load_recipe(REPOSITORY / "recipes" / "ccella.yaml", [profile])
    config = checked(recipe.deepspeed, world=world, on_cpu=False)
    assert config["train_micro_batch_size_per_gpu"] == micro
    assert config["gradient_accumulation_steps"] == accumulation
    assert config["train_batch_size"] == world * micro * accumulation == 16


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({}, "train_batch_size is None"),
        ({"train_batch_size": 5}, "does not divide among 2 processes"),
        ({"train_batch_size": 4, "gradient_cliping": 1}, "did you mean gradient_clipping?"),
        ({"train_batch_size": 4, "optimizer": {}}, "the recipe's optimizer: block"),
        ({"train_batch_size": 4, "fp16": {"enabled": True}}, "fp16 needs a CUDA device"),
        ({"train_batch_size": 4, "zero_optimization": {"stage": 4}}, "legal: 0, 1, 2, 3"),
        ({"train_batch_size": 4, "gradient_accumulation_steps": 0}, "at least 1"),
        (
            {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 3},
            "does not divide among 2 processes x 3 cases a micro batch",
        ),
        (
            {
                "train_batch_size": 8,
                "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": 2,
            },
            "2 processes x 1 cases a micro batch x 2 accumulation steps = 4",
        ),
        (
            {
                "train_batch_size": 4,
                "bf16": {"enabled": True},
                "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
            },
            "both enabled",
        ),
    ],
)
def test_mistakes_are_named(block: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match="deepspeed: block") as caught:
        checked(block, world=2)
    assert words in str(caught.value)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        checked({"train_batch_size": 0, "fp16": {"enabled": True}, "zoro": {}})
    assert all(word in str(caught.value) for word in ("train_batch_size", "fp16", "zoro"))


def test_fp16_is_legal_beside_a_gpu() -> None:
    block = {"train_batch_size": 4, "fp16": {"enabled": True}}
    assert checked(block, on_cpu=False)["fp16"] == {"enabled": True}
    assert autocast_dtype(block) == "float16"


def test_stage_and_precision_are_read() -> None:
    assert zero_stage({}) == 0
    assert zero_stage({"zero_optimization": {"stage": 2}}) == 2
    assert autocast_dtype({"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}) == "bfloat16"
    assert autocast_dtype({"torch_autocast": {"enabled": False}}) is None


def test_deepspeed_accepts_what_we_pass() -> None:
    """The legal keys are DeepSpeed's: its own configuration class takes every one."""
    from deepspeed.runtime.config import DeepSpeedConfig

    block = {
        "train_batch_size": 4,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}},
        "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
    }
    parsed = DeepSpeedConfig(checked(block))
    assert parsed.zero_optimization_stage == 3
    assert parsed.zero_config.param_persistence_threshold == 0
    assert parsed.train_micro_batch_size_per_gpu == 4
