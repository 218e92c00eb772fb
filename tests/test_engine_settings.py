"""The deepspeed: block is checked before anything is built."""

from typing import Any

import pytest
import torch
from tiny_run import REPOSITORY

from voxella.autoencoder import settings as autoencoder_settings
from voxella.engine import precision, sharding
from voxella.engine.precision import autocast_dtype
from voxella.engine.settings import deepspeed_config
from voxella.engine.sharding import zero_stage
from voxella.errors import UserError
from voxella.pipeline.preflight import check_training
from voxella.ranks import Ranks
from voxella.recipe.load import load_recipe

CPU = torch.device("cpu")
FLOAT16 = {"torch_autocast": {"enabled": True, "dtype": "float16"}}


def checked(
    block: dict[str, Any], world: int = 1, device: torch.device | None = CPU
) -> dict[str, Any]:
    return deepspeed_config(block, world=world, device=device)


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
    config = checked(recipe.deepspeed, world=world, device=None)
    assert config["train_micro_batch_size_per_gpu"] == micro
    assert config["gradient_accumulation_steps"] == accumulation
    assert config["train_batch_size"] == world * micro * accumulation == 16


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({}, "train_batch_size is null"),
        ({"train_batch_size": 5}, "does not divide among 2 processes"),
        ({"train_batch_size": 4, "gradient_cliping": 1}, "did you mean gradient_clipping?"),
        ({"train_batch_size": 4, "optimizer": {}}, "the recipe's optimizer: block"),
        ({"train_batch_size": 4, **FLOAT16}, "fp16 needs a CUDA device"),
        (
            {"train_batch_size": 4, "fp16": {"enabled": True}},
            "expected: torch_autocast: {enabled: true, dtype: float16}",
        ),
        (
            {"train_batch_size": 4, "torch_autocast": {"dtype": "int8"}},
            "expected: bfloat16, float16",
        ),
        (
            {"train_batch_size": 4, "torch_autocast": {"lower_precision_safe_modules": ["os.x"]}},
            "torch_autocast.lower_precision_safe_modules is not supported",
        ),
        (
            {"train_batch_size": 4, "bf16": {"enabled": True, "immediate_grad_update": True}},
            "bf16.immediate_grad_update is not supported; expected: enabled",
        ),
        ({"train_batch_size": 4, "bf16": True}, "bf16 is true; expected: {enabled: ...}"),
        ({"train_batch_size": 4, "communication_data_type": "fp16"}, "expected: fp32, bf16"),
        (
            {
                "train_batch_size": 4,
                "communication_data_type": "bf16",
                "torch_autocast": {"enabled": True},
            },
            "communication_data_type has no effect under torch_autocast",
        ),
        ({"train_batch_size": 4, "gradient_clipping": -1}, "gradient_clipping is -1"),
        ({"train_batch_size": 4, "gradient_clipping": "auto"}, "gradient_clipping is 'auto'"),
        ({"train_batch_size": 4, "prescale_gradients": True}, "prescale_gradients is not supp"),
        ({"train_batch_size": 4, "nebula": {}}, "DeepSpeed has removed it"),
        ({"train_batch_size": 4, "comms_logger": {}}, "messages are switched off"),
        ({"train_batch_size": 4, "steps_per_print": 1}, "train.log_every"),
        ({"train_batch_size": 4, "flops_profiler": {"output_file": "x"}}, "profile_step"),
        ({"train_batch_size": 4, "zero_optimization": True}, "expected: {stage: 0, 1, 2 or 3"),
        ({"train_batch_size": 4, "zero_optimization": {"stge": 1}}, "did you mean stage?"),
        (
            {"train_batch_size": 4, "zero_optimization": {"reduce_bucket_size": "auto"}},
            "zero_optimization.reduce_bucket_size is 'auto'; expected: a whole number",
        ),
        (
            {"train_batch_size": 4, "zero_optimization": {"overlap_comm": 1}},
            "overlap_comm is 1; expected: true, false",
        ),
        (
            {
                "train_batch_size": 4,
                "zero_optimization": {"stage": 2, "zero_quantized_gradients": True},
            },
            "rounds gradients to 4 bits",
        ),
        (
            {"train_batch_size": 4, "zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "offload_optimizer needs stage 1 or 2 or 3; stage is 0",
        ),
        (
            {
                "train_batch_size": 4,
                "zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}},
            },
            "offload_param needs stage 3; stage is 2",
        ),
        (
            {
                "train_batch_size": 4,
                "zero_optimization": {
                    "stage": 3,
                    "offload_optimizer": {"device": "cpu", "ratio": 0.5},
                },
            },
            "offload_optimizer.ratio is not supported",
        ),
        ({"train_batch_size": 4, "zero_optimization": {"stage": 4}}, "expected: 0, 1, 2, 3"),
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


@pytest.mark.parametrize("name", ["float16", "fp16", "half", "torch.float16"])
def test_of_float16_deepspeed_is_told_nothing(name: str) -> None:
    """Its scalers clip scaled gradients; the engine casts and scales itself."""
    block = {"train_batch_size": 4, "torch_autocast": {"enabled": True, "dtype": name}}
    config = checked(block, device=None)
    assert "torch_autocast" not in config
    assert "fp16" not in config
    assert autocast_dtype(block) == "float16"


def test_autocast_without_a_dtype_is_bfloat16() -> None:
    """Left out, torch would take float16 on a GPU, unscaled."""
    config = checked({"train_batch_size": 4, "torch_autocast": {"enabled": True}})
    assert config["torch_autocast"] == {"enabled": True, "dtype": "bfloat16"}


def test_a_key_set_to_null_is_left_out() -> None:
    block = dict.fromkeys(("fp16", "bf16", "prescale_gradients", "zero_optimization"))
    config = checked({"train_batch_size": 4, **block, "gradient_clipping": None})
    assert not {*block, "gradient_clipping"} & set(config)


@pytest.mark.parametrize("key", ["torch_autocast", "bf16"])
def test_a_gpu_without_bfloat16_is_told_what_works(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    class On:
        def __init__(self, device: torch.device) -> None:
            assert device == torch.device("cuda", 1)

        def __enter__(self) -> None: ...
        def __exit__(self, *of: object) -> None: ...

    def supported(*, including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return False

    monkeypatch.setattr(torch.cuda, "device", On)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    block = {"train_batch_size": 4, key: {"enabled": True}}
    with pytest.raises(UserError, match="Tesla V100 cannot") as caught:
        checked(block, device=torch.device("cuda", 1))
    assert asked == [False]  # torch emulates it there, and says yes where that is counted
    assert "torch_autocast: {enabled: true, dtype: float16}" in str(caught.value)
    checked({"train_batch_size": 4, **FLOAT16}, device=torch.device("cuda", 1))


def test_precision_is_checked_before_the_first_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "lacks", lambda device, dtype: "Tesla V100")
    monkeypatch.setattr(autoencoder_settings, "lacks", lambda device, dtype: "Tesla V100")
    recipe = load_recipe(
        REPOSITORY / "recipes" / "first.yaml",
        ["smoke"],
        ["autoencoder_training.precision=bf16", "deepspeed.torch_autocast={enabled: true}"],
    )
    with pytest.raises(UserError) as caught:
        check_training(
            recipe.deepspeed,
            recipe.autoencoder_training,
            recipe.diffusion,
            recipe.sample,
            Ranks(0, 0, 1),
        )
    assert "autoencoder_training.precision=fp32" in str(caught.value)
    assert "dtype: float16" in str(caught.value)


def test_stage_and_precision_are_read() -> None:
    assert zero_stage({}) == 0
    assert zero_stage({"zero_optimization": {"stage": 2}}) == 2
    assert autocast_dtype({"torch_autocast": {"enabled": True, "dtype": "bfloat16"}}) == "bfloat16"
    assert autocast_dtype({"torch_autocast": {"enabled": False}}) is None


def test_deepspeed_accepts_what_we_pass() -> None:
    """The allowed keys are DeepSpeed's: its own configuration class takes every one as its own."""
    from deepspeed.runtime.config import DeepSpeedConfig

    zero = {**dict.fromkeys(sharding._SWITCHES, True), **dict.fromkeys(sharding._SIZES, 8)}
    block = {
        "train_batch_size": 4,
        "gradient_clipping": 1.0,
        "zero_optimization": {
            **zero,
            **sharding._PARTITIONED,
            "stage": 3,
            **{key: {"device": "cpu", "pin_memory": False} for key in sharding._OFFLOADS},
        },
        "torch_autocast": {"enabled": True, "dtype": "bfloat16"},
        "communication_data_type": None,
        "wall_clock_breakdown": True,
    }
    parsed = DeepSpeedConfig(checked(block))
    assert parsed.zero_optimization_stage == 3
    assert parsed.zero_config.param_persistence_threshold == 0
    assert parsed.train_micro_batch_size_per_gpu == 4
    # What its class does not know it keeps as an extra, and trains without.
    assert not parsed.zero_config.model_extra


def test_every_zero_key_of_deepspeed_is_decided() -> None:
    """Passed on, refused with a reason, or another name of a key that is."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    names = {
        field.alias or name
        for name, field in DeepSpeedZeroConfig.model_fields.items()
        if name != "stage3_gather_fp16_weights_on_model_save"
    }
    decided = {*sharding._SWITCHES, *sharding._SIZES, *sharding._OFFLOADS, *sharding._REFUSED}
    assert decided | {"stage"} == names
