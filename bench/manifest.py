"""How a manifest of millions of cases is opened, read through and read by position, in each form.

    python bench/manifest.py --json bench/results/manifest-2cores.json

One process writes the cases; then a process of its own opens them in each form, so that its memory
is the manifest's alone: what it held before (Python, pydantic, pyarrow) is taken off. Lines are
read whole, so there are fewer of them. Seconds are of the clock and of this process's CPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from result import publish

from voxella.case import Case, Manifest
from voxella.case.parquet import TABLE, write_table

__all__ = ["resident_mb", "sample_cases"]

_CONTEXT = multiprocessing.get_context("spawn")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table, lines = Path(folder) / "table", Path(folder) / "lines"
        table.mkdir()
        lines.mkdir()
        written = _timed(lambda: write_table(table / TABLE, sample_cases(arguments.rows)))
        Manifest(lines, list(sample_cases(arguments.lines))).write(parquet_above=None)
        result = {
            "what": "manifest",
            "cores": os.cpu_count(),
            "table": {
                "rows": arguments.rows,
                "file_mb": _megabytes(table),
                "write": written,
                **_alone(table, arguments.reads, arguments.through),
            },
            "lines": {
                "rows": arguments.lines,
                "file_mb": _megabytes(lines),
                **_alone(lines, arguments.reads, arguments.through),
            },
            "load": [round(value, 1) for value in os.getloadavg()],
        }
    publish(result, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=3_200_000, help="cases of the table")
    parser.add_argument("--lines", type=int, default=100_000, help="cases in lines of JSON")
    parser.add_argument("--reads", type=int, default=2_000, help="cases read by position")
    parser.add_argument("--through", type=int, default=200_000, help="cases read in order")
    parser.add_argument("--folder", type=Path, help="where the manifests lie meanwhile")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    return parser.parse_args()


def sample_cases(rows: int) -> Iterator[Case]:
    """Yield tiles of slides: judged once, then copied, as an importer's own speed is no matter."""
    label = ("negative", "positive")
    first = [
        Case(id="x", group="x", images={"tile": "x.png"}, label=name, extra={"spacing_mm": [0.5]})
        for name in label
    ]
    for number in range(rows):
        yield first[number % 2].model_copy(
            update={
                "id": f"tile-{number:08d}",
                "group": f"slide-{number // 1000:05d}",
                "images": {"tile": f"tiles/{number // 1000:05d}/{number:08d}.png"},
                "texts": {"report": f"reports/slide-{number // 1000:05d}.txt"},
                "split": ("train", "train", "train", "val", "test")[number // 1000 % 5],
                "conditions": {"age": 40.0 + number // 1000 % 50, "stain": "HE"},
            }
        )


def _alone(folder: Path, reads: int, through: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    with _CONTEXT.Pool(1) as pool:
        return pool.apply(_measured, (folder, reads, through))


def _measured(folder: Path, reads: int, through: int) -> dict[str, Any]:
    import pyarrow.parquet  # noqa: F401 - the library is no part of the manifest's memory

    before = resident_mb()
    opened = _timed(lambda: Manifest.open(folder))
    manifest = Manifest.open(folder)
    after_open = resident_mb()
    places = np.random.default_rng(0).integers(len(manifest), size=reads).tolist()
    by_position = _timed(lambda: [manifest.cases[place].id for place in places])

    def read_through() -> None:
        for number, _ in enumerate(manifest, start=1):
            if number == through:
                return

    in_order = _timed(read_through)
    return {
        "open": opened,
        "open_mb": round(after_open - before, 1),
        "by_position": {"reads": reads, **by_position},
        "in_order": {"cases": min(through, len(manifest)), **in_order},
        "after_all_mb": round(resident_mb() - before, 1),
    }


def _timed(do: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return {
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }


def resident_mb() -> float:
    """Return this process's own memory; pages of a mapped file are the system's to take back."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in told.splitlines() if line.startswith("RssAnon"))
    return int(kilobytes) / 1024


def _megabytes(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 1)


if __name__ == "__main__":
    main()
