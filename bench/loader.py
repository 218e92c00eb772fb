"""Cases per second that the caches and the batch builder give, and bytes per case on the disk.

    python bench/loader.py --json bench/results/loader-cpu.json

Makes caches of random numbers at the paper's shapes in a temporary folder, in every form they can
be stored in, and draws batches from them through the training loop's own path. No GPU is needed:
the question is whether one would have to wait.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark import options, sized_recipe
from device_peak import describe_device
from result import publish

from voxella.cache.join_latents import merge_latents
from voxella.cache.latents import LatentCache, LatentWriter
from voxella.cache.text import CaseText, TextCache, TextWriter, merge_text, text_key
from voxella.case import Case
from voxella.engine.order import DataOrder
from voxella.engine.task import prefetch
from voxella.ldm.batch_settings import BatchSettings
from voxella.ldm.batches import LatentBatchBuilder
from voxella.recipe.model import Recipe

# (text.dtype, latent.dtype)
_FORMS = (
    ("float32", "float32"),
    ("bfloat16", "float32"),
    ("bfloat16", "bfloat16"),
    ("compact", "compact"),
)
# The paper: 3,701 of 5,071 training cases have a report.
_REPORTS, _CASES = 3701, 5071
# What its released code writes a case: 512 padded tokens and one latent, float32.
_RELEASED_BYTES = 4 * (512 * 4096 + 4 * 64 * 64 * 32)
# 1000 calls of the paper's network take 57 s on an A100, one volume at a time; a training step
# is a forward and a backward pass, three calls' worth.
_NEEDED = 1000 / 57 / 3


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    rows = []
    for text_dtype, latent_dtype in _FORMS:
        stored = (f"text.dtype={text_dtype}", f"latent.dtype={latent_dtype}")
        recipe = sized_recipe(arguments, *stored)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            rows.append(_measure(recipe, Path(folder), arguments))
    result = {
        "what": "loader",
        "device": describe_device(torch.device("cpu")),
        "recipe": arguments.recipe.stem,
        "size": arguments.size,
        "batch": arguments.batch,
        "cases": arguments.cases,
        "tokens_per_report": arguments.tokens,
        "released_bytes_per_case": _RELEASED_BYTES,
        "needed_cases_per_second": round(_needed(), 2),
        "forms": rows,
    }
    publish(result, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = options(__doc__ or "")
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument(
        "--tokens",
        type=int,
        default=448,
        help="per report; 448 is the mean over 132 real ones, cut at 512",
    )
    parser.add_argument(
        "--folder", type=Path, help="where the caches go for the time; default /tmp"
    )
    parser.set_defaults(size="paper", batch=16, repeats=6)
    return parser.parse_args()


def _needed() -> float:
    """Return what one GPU consumes: measured here, if it was, else on the paper's A100."""
    for path in (Path(__file__).parent / "results").glob("train_step-*.json"):
        known = json.loads(path.read_text())
        if known["size"] == "paper":
            return max(_NEEDED, float(known["cases_per_second"]))
    return _NEEDED


def _measure(recipe: Recipe, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    cases = {name: _case(name) for name in (f"case-{n:04d}" for n in range(arguments.cases))}
    latents = _latents(recipe, folder / "latents", list(cases))
    text = _text(recipe, folder / "text", list(cases), arguments.tokens)
    stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    builder = LatentBatchBuilder(BatchSettings.of(recipe), cases, latents, text, scale=1.0)
    order = DataOrder(list(cases), seed=recipe.seed, batch_size=arguments.batch)
    builders = [partial(builder.make, order.step(step)) for step in range(arguments.repeats)]
    _forget(folder)
    cold = _rate(builders, arguments.batch)
    warm = _rate(builders, arguments.batch)
    reads = [partial(_read, latents, text, name) for name in cases]
    return {
        "text": recipe.text.dtype if recipe.text else None,
        "latent": recipe.latent.dtype,
        "bytes_per_case": round(stored / len(cases)),
        "share_of_released": round(stored / len(cases) / _RELEASED_BYTES, 4),
        "cases_per_second": round(warm, 2),
        "cases_per_second_from_disk": round(cold, 2),
        "cases_per_second_read_alone": round(_rate(reads, 1), 2),
        "times_what_a_gpu_needs": round(warm / _needed(), 2),
    }


def _rate(builders: Sequence[Callable[[], Any]], cases_each: int) -> float:
    """Return cases per second through the training loop's prefetching thread."""
    start = time.perf_counter()
    count = sum(1 for _ in prefetch(iter(builders)))
    return count * cases_each / (time.perf_counter() - start)


def _read(latents: LatentCache, text: TextCache, case_id: str) -> None:
    """Touch every byte of a case without making a batch of it."""
    for tensor in (*latents.read(case_id), text.read(case_id)[0]):
        tensor.sum()


def _forget(folder: Path) -> None:
    """Ask the kernel to drop the files from memory, so that they are read from the disk."""
    for path in folder.rglob("*.safetensors"):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _case(name: str) -> Case:
    spacing = {"spacing_mm": [0.5, 0.5, 0.6]}
    return Case(id=name, group=name, images={}, label="negative", split="train", extra=spacing)


def _latents(recipe: Recipe, folder: Path, names: list[str]) -> LatentCache:
    shape = (recipe.latent.channels, *recipe.latent.size)
    generator = torch.Generator().manual_seed(0)
    dtype, sources = recipe.latent.dtype, dict.fromkeys(names, "random")
    with LatentWriter(folder, dtype, key="random", sources=sources) as writer:
        for name in names:
            mean, log_sigma = torch.randn(2, *shape, generator=generator)
            writer.add(name, mean, 0.1 * log_sigma - 2)
    return merge_latents(
        folder, dtype, key="random", fingerprint="random", sources=sources, train_ids=names
    )


def _text(recipe: Recipe, folder: Path, names: list[str], tokens: int) -> TextCache:
    """Write features of ``tokens`` for the paper's share of cases, no two reports alike."""
    settings = recipe.text
    assert settings is not None, "a recipe that reads text"
    generator = torch.Generator().manual_seed(1)
    entries, lengths = {}, {text_key("", "random"): 1}
    for number, name in enumerate(names):
        has_report = number * _REPORTS // _CASES != (number + 1) * _REPORTS // _CASES
        key = text_key(name if has_report else "", "random")
        entries[name] = CaseText(key, has_report, tokens, 0)
        lengths.setdefault(key, tokens)
    with TextWriter(folder, settings.dtype, key="random", texts=lengths) as writer:
        for key, length in lengths.items():
            writer.add(key, torch.randn(length, settings.width, generator=generator))
    return merge_text(folder, settings, key="random", fingerprint="random", cases=entries)


if __name__ == "__main__":
    main()
