"""A plan's proposals as a profile: a file that lies over the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxella.engine.precision import autocast_dtype
from voxella.files import write_text_atomic
from voxella.forecast.fingerprint import Grid
from voxella.forecast.fit import sharded
from voxella.forecast.planning import RecipePlan
from voxella.recipe.inputs import Prepare
from voxella.recipe.yaml_lines import dump_yaml

__all__ = ["grid_overrides", "profile_of", "write_profile"]


def profile_of(plan: RecipePlan, data: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a plan's profile.

    Args:
        plan: The plan.
        data: Keys that follow from the data set, from :func:`grid_overrides`; none: ``{}``.
    """
    recipe, chosen = plan.step.recipe, plan.chosen
    zero = sharded({}, chosen.stage, offload=chosen.offload)["zero_optimization"]
    before = recipe.deepspeed.get("zero_optimization") or {}
    # Null takes away what the recipe has and the plan has not.
    zero |= {
        key: None
        for key in ("offload_optimizer", "offload_param")
        if key in before and key not in zero
    }
    block: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": chosen.micro_batch,
        "gradient_accumulation_steps": None,
        "zero_optimization": zero,
    }
    if not plan.machine.card.bfloat16 and autocast_dtype(recipe.deepspeed) == "bfloat16":
        block |= {"bf16": None, "torch_autocast": {"enabled": True, "dtype": "float16"}}
    return {
        **data,
        "train": {"gradient_checkpointing": chosen.checkpointing},
        "deepspeed": block,
        "sample": {"batch_size": plan.sample_batch},
    }


def grid_overrides(grid: Grid, prepare: Prepare, tokens: int | None) -> dict[str, Any]:
    """Return the keys that follow from a data set's fingerprint.

    Args:
        grid: The proposed grid.
        prepare: The recipe's, which says whether the crop is in mm or in voxels.
        tokens: The proposed limit; None: the recipe's stays.
    """
    in_voxels = prepare.crop_voxels is not None
    crop: list[float] | list[int] = (
        [round(edge) for edge in grid.crop] if in_voxels else list(grid.crop)
    )
    found: dict[str, Any] = {
        "prepare": {"crop_voxels" if in_voxels else "crop_mm": crop, "size": list(grid.size)},
        "latent": {"size": list(grid.latent)},
    }
    return found if tokens is None else {**found, "text": {"max_tokens": tokens}}


def write_profile(path: Path, keys: dict[str, Any], head: Sequence[str]) -> Path:
    """Write a profile, atomically, under comments that say where it comes from."""
    comments = "".join(f"# {line}".rstrip() + "\n" for line in head)
    return write_text_atomic(path, comments + "\n" + dump_yaml(keys))
