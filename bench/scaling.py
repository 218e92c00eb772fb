"""How time and memory grow: a training step by voxels, tokens, batch and processes; manifests.

    python bench/scaling.py --json bench/results/scaling-2cores.json

Every cell runs in processes of its own. Beside each measured peak stands what `voxella plan`
forecasts for it. Seconds are of the processor: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from device_peak import describe_device
from manifest import resident_mb, sample_cases
from result import publish

import voxella
from voxella.case import Manifest
from voxella.case.manifest import MANY
from voxella.case.parquet import TABLE, write_table
from voxella.forecast.live import Tracing
from voxella.forecast.memory import peak_bytes
from voxella.recipe.model import Recipe

_HERE = Path(__file__).parent
_RECIPE = _HERE.parent / "recipes" / "ccella.yaml"
# A tenth of the paper's widths: 30 M parameters.
_MODEL = (
    "backbone.channels=[32,64,128]",
    "backbone.attention=[false,false,true]",
    "conditioner.width=128",
    "conditioner.blocks=2",
    "text.width=256",
    "deepspeed.torch_autocast=null",
    "deepspeed.zero_optimization.reduce_bucket_size=5000000",
)
_CONTEXT = multiprocessing.get_context("spawn")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    model = [*_MODEL, *arguments.set]
    result = {
        "what": "scaling",
        "device": describe_device(torch.device("cpu")),
        "load_average": round(os.getloadavg()[0], 1),
        "train": [
            _cell(axis, model, arguments.steps, **sizes)
            for axis, sizes in _cells(arguments.voxels, arguments.most)
        ],
        "manifests": [_manifest(lines) for lines in arguments.lines],
    }
    publish(result, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voxels", type=int, default=8, help="the latent's smallest edge")
    parser.add_argument("--most", type=int, default=3, help="sizes along each axis: 1, 2, 4 times")
    parser.add_argument("--steps", type=int, default=3, help="that are timed in each cell")
    parser.add_argument(
        "--lines", type=int, nargs="*", default=[10**n for n in range(2, 7)], help="of manifests"
    )
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    parser.add_argument("--json", type=Path, help="keep the result here")
    return parser.parse_args()


def _cells(edge: int, most: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the axis that grows and the sizes of a cell; all else stays at the middle."""
    times = [2**n for n in range(most)]
    middle = (2 * edge, 2 * edge, 2 * edge)
    for n in times:
        yield "voxels", {"latent": (2 * edge, 2 * edge, n * edge)}
    for n in times:
        yield "tokens", {"latent": middle, "tokens": 128 * n}
    for n in times:
        yield "batch", {"latent": middle, "batch": n}
    for stage in range(4):
        yield "ranks", {"latent": middle, "batch": 2, "ranks": 2, "stage": stage}


def _cell(
    axis: str,
    model: list[str],
    steps: int,
    *,
    latent: tuple[int, ...],
    tokens: int = 128,
    batch: int = 1,
    ranks: int = 1,
    stage: int = 0,
) -> dict[str, Any]:
    overrides = [
        *model,
        f"latent.size={list(latent)}",
        f"prepare.size={[4 * n for n in latent]}",
        f"text.max_tokens={tokens}",
        f"deepspeed.train_batch_size={batch}",
        f"deepspeed.zero_optimization.stage={stage}",
    ]
    recipe = voxella.load_recipe(str(_RECIPE), overrides=overrides)
    measured = _in_processes(overrides, steps, ranks)
    planned = forecast_bytes(recipe, int(measured["parameters"]), ranks)
    found = {
        "axis": axis,
        "latent": list(latent),
        "tokens": tokens,
        "batch": batch,
        "ranks": ranks,
        "zero_stage": stage,
        **measured,
        "forecast_bytes": planned,
        "forecast_by_measured": round(planned / measured["allocator_bytes"], 3),
    }
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def forecast_bytes(recipe: Recipe, parameters: int, ranks: int) -> int:
    """Return the peak that a plan forecasts for a recipe's training."""
    step = Tracing(recipe).training()
    assert step is not None, "the shipped networks can be traced"
    averaged = recipe.train.ema_decay is not None
    return peak_bytes(recipe.deepspeed, parameters, ranks, step, averaged=averaged)


def _in_processes(overrides: list[str], steps: int, ranks: int) -> dict[str, Any]:
    """Return what the first of so many processes measured."""
    words = [sys.executable, str(_HERE / "scaling_cell.py"), str(_RECIPE), str(steps), *overrides]
    started = [
        subprocess.Popen(words, stdout=subprocess.PIPE, env=_place(rank, ranks), text=True)
        for rank in range(ranks)
    ]
    told = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"a cell failed: {' '.join(words[1:])}")
    found: dict[str, Any] = json.loads(told[0].strip().splitlines()[-1])
    return found


def _place(rank: int, world: int) -> dict[str, str]:
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    if world == 1:
        return own
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    return own | place | {name: str(value) for name, value in numbers.items()}


def _manifest(lines: int) -> dict[str, Any]:
    """Write a manifest in the form it takes at its size and read it, each in its own process."""
    found: dict[str, Any] = {"lines": lines}
    with tempfile.TemporaryDirectory() as folder:
        for measure in (written_manifest, read_manifest):
            with _CONTEXT.Pool(1) as pool:
                found |= pool.apply(measure, (Path(folder), lines))
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def written_manifest(folder: Path, lines: int) -> dict[str, Any]:
    """Return what writing so many cases takes: above the limit a table, from a stream of cases."""
    import pyarrow.parquet  # noqa: F401 - the library is no part of the manifest's memory

    before, start = resident_mb(), time.process_time()
    if lines > MANY:
        path = write_table(folder / TABLE, sample_cases(lines))
    else:
        path = Manifest(folder, sample_cases(lines)).write()
    return {
        "form": path.name,
        "file_mb": round(path.stat().st_size / 2**20, 2),
        "write_us_a_line": round(1e6 * (time.process_time() - start) / lines, 2),
        "write_mb": round(resident_mb() - before, 1),
    }


def read_manifest(folder: Path, lines: int) -> dict[str, Any]:
    """Return what reading and judging a whole manifest takes, and going through it."""
    import pyarrow.parquet  # noqa: F401 - as above

    before, start = resident_mb(), time.process_time()
    manifest = Manifest.read(folder)
    read = time.process_time() - start
    held, start = resident_mb() - before, time.process_time()
    count = sum(1 for _ in manifest)
    through = time.process_time() - start
    assert count == lines
    return {
        "read_us_a_line": round(1e6 * read / lines, 2),
        "read_mb": round(held, 1),
        "through_us_a_line": round(1e6 * through / lines, 2),
        "through_mb": round(resident_mb() - before, 1),
    }


if __name__ == "__main__":
    main()
