"""What the benchmarks share: the recipe at a size, one batch of random numbers, a record."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from device_peak import describe_device, matrix_peak_tflops, synchronize
from result import publish
from torch.utils.flop_counter import FlopCounterMode

import voxella
from voxella.ldm.build import Batch
from voxella.recipe.model import Recipe

__all__ = ["count_flops", "options", "random_batch", "record", "sized_recipe", "timed"]

_RECIPES = Path(__file__).parents[1] / "recipes"
# The paper's widths on a latent that two CPU cores can hold, and few tokens.
_SMALL = ["latent.size=[16,16,16]", "prepare.size=[64,64,64]", "text.max_tokens=64"]


def options(about: str) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--recipe", type=Path, default=_RECIPES / "ccella.yaml")
    parser.add_argument(
        "--size",
        choices=["paper", "small"],
        default="paper" if torch.cuda.is_available() else "small",
        help="paper: latent 4x64x64x32; small: 4x16x16x16. The widths are the paper's in both.",
    )
    parser.add_argument("--batch", type=int, default=8 if torch.cuda.is_available() else 1)
    parser.add_argument("--repeats", type=int, default=10 if torch.cuda.is_available() else 2)
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="A.B=C")
    parser.add_argument("--json", type=Path, help="keep the result here")
    return parser


def sized_recipe(arguments: argparse.Namespace, *more: str) -> Recipe:
    """Return the recipe at the chosen size and batch."""
    size = [] if arguments.size == "paper" else _SMALL
    overrides = [*size, f"deepspeed.train_batch_size={arguments.batch}", *more]
    return voxella.load_recipe(str(arguments.recipe), overrides=[*overrides, *arguments.overrides])


def random_batch(recipe: Recipe, count: int, device: torch.device) -> Batch:
    """Return a batch of random latents and text features at the recipe's shapes."""
    generator = torch.Generator().manual_seed(recipe.seed)
    shape = (count, recipe.latent.channels, *recipe.latent.size)
    text = recipe.text
    labels = torch.arange(count) % len(recipe.data.classes)
    batch = Batch(
        case_ids=tuple(f"random-{index}" for index in range(count)),
        latents=torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
        timesteps=torch.randint(recipe.diffusion.steps, (count,), generator=generator),
        text_features=torch.randn(count, text.max_tokens, text.width, generator=generator)
        if text
        else None,
        text_mask=None,
        label=torch.nn.functional.one_hot(labels, len(recipe.data.classes)).float(),
        has_report=torch.ones(count, dtype=torch.bool),
        spacing_mm=torch.full((count, len(recipe.latent.size)), 0.5),
    )
    return batch.to(device)


def timed(work: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Return the seconds of each repetition; the caller has run ``work`` once to warm up."""
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def count_flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of one call, counted by torch's own counter."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def record(
    arguments: argparse.Namespace, what: str, seconds: list[float], flops: int, **more: float
) -> dict[str, Any]:
    """Print and keep one result, with the share of the matrix peak measured in this same run."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    peak = matrix_peak_tflops(device, dtype)
    median = sorted(seconds)[len(seconds) // 2]
    result = {
        "what": what,
        "device": describe_device(device),
        "recipe": arguments.recipe.stem,
        "size": arguments.size,
        "batch": arguments.batch,
        "weights": "random",
        "steps_per_second": round(1 / median, 4),
        "seconds": [round(value, 4) for value in seconds],
        "tflop_per_step": round(flops / 1e12, 3),
        "achieved_tflops": round(flops / median / 1e12, 3),
        "matrix_peak_tflops": round(peak, 3),
        "share_of_peak": round(flops / median / 1e12 / peak, 4),
        "peak_dtype": str(dtype).removeprefix("torch."),
        **more,
    }
    return publish(result, arguments.json)
