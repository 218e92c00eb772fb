"""How an index of millions of tiles is opened, and how fast tiles at random places are read.

    python bench/tiles.py --json bench/results/tiles-2cores.json

The index has a row for each of 3.2 million tiles, 1000 a slide; its rows point into shards of fewer
tiles (JPEG, 448 pixels a side), over and over, for 3.2 million would fill a disk. So the shards lie
in the system's cache, and what is measured is this project's own work: finding a row, reading its
bytes, decoding them. Reading happens in one process of its own, whose memory is the store's alone:
what Python and the libraries hold is taken off; then in several beside each other, as loaders do.
Seconds are of the clock and of the CPU: on a busy machine the second is what a core does.

Beside it stands what a GPU of the paper could take at most: the operations that training asks for
one tile (PathLDM's U-Net forward and backward on 64 x 64 x 3, its frozen first stage forward on 256
pixels, both as this project's own counter counts them), at the peak that the vendor states, which
no training reaches.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from result import publish

from voxella.case import Case, Manifest
from voxella.case.parquet import TABLE, write_table
from voxella.data.tile_store import Tile, TileStore
from voxella.imaging.shards import read_row, row_of
from voxella.imaging.volume import read_image

_CONTEXT = multiprocessing.get_context("spawn")
_A_SLIDE = 1000
_BATCH = 48  # the paper's, of one GPU
# Operations for a tile: voxella.forecast.flops of recipes/pathldm/pathldm.yaml.
_TRAIN_FLOPS, _ENCODE_FLOPS = 637_556_588_544, 310_877_691_904
# The paper's GPU: Quadro RTX 8000, 16 bits on its tensor cores.
_GPU, _PEAK_FLOPS = "Quadro RTX 8000", 130.5e12


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        images = _shards(Path(folder), arguments.stored, arguments.side)
        written = _timed(lambda: write_table(Path(folder) / TABLE, _cases(arguments.rows, images)))
        with _CONTEXT.Pool(1) as pool:
            found = pool.apply(_measured, (Path(folder), arguments.reads))
        together = _beside_each_other(Path(folder), arguments.reads, arguments.workers)
        shards = sum(path.stat().st_size for path in (Path(folder) / "tiles").glob("*.shard"))
        result = {
            "what": "tiles",
            "cores": os.cpu_count(),
            "rows": arguments.rows,
            "index_mb": round((Path(folder) / TABLE).stat().st_size / 2**20, 1),
            "stored_tiles": len(images),
            "mean_tile_kb": round(shards / len(images) / 1000, 1),
            "side": arguments.side,
            "write_index": written,
            **found,
            "loaders": together,
            "gpu": _gpu(),
            "load": [round(value, 1) for value in os.getloadavg()],
        }
    publish(result, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=3_200_000, help="tiles of the index")
    parser.add_argument("--stored", type=int, default=2_000, help="tiles that are there")
    parser.add_argument("--side", type=int, default=448, help="pixels along a tile's side")
    parser.add_argument("--reads", type=int, default=1_000, help="tiles read at random places")
    parser.add_argument("--workers", type=int, default=2, help="processes that read together")
    parser.add_argument("--folder", type=Path, help="where all of it lies meanwhile")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    return parser.parse_args()


def _shards(folder: Path, count: int, side: int) -> list[str]:
    """Write tiles of coloured noise, smooth enough to compress about as tissue does."""
    store = TileStore(folder, ())
    slides = max(1, count // _A_SLIDE)
    for slide in range(slides):
        drawn = np.random.default_rng(slide)
        tiles = (_tile(drawn, number, side) for number in range(count // slides))
        store.write(f"slide-{slide:05d}", tiles, "")
    return [row.image for slide in range(slides) for row in store.rows(f"slide-{slide:05d}")]


def _tile(drawn: np.random.Generator, number: int, side: int) -> Tile:
    coarse = drawn.integers(90, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(packed, format="JPEG", quality=90)
    return Tile(str(number), packed.getvalue(), ".jpg", {})


def _cases(rows: int, images: list[str]) -> Iterator[Case]:
    """Yield tiles of slides: judged once, then copied, as an importer's own speed is no matter."""
    first = Case(id="x", group="x", images={"he": images[0]}, label="0", label_source="wsinfer")
    for number in range(rows):
        slide = number // _A_SLIDE
        yield first.model_copy(
            update={
                "id": f"slide-{slide:05d}_{number % _A_SLIDE}",
                "group": f"slide-{slide:05d}",
                "images": {"he": images[number % len(images)]},
                "texts": {"report": f"captions/slide-{slide:05d}-{number % 4}.txt"},
                "split": ("train", "train", "train", "val", "test")[slide % 5],
                "conditions": {"prob_tumor": number % 97 / 97, "prob_til": number % 89 / 89},
            }
        )


def _measured(folder: Path, reads: int) -> dict[str, Any]:
    import pyarrow.parquet  # noqa: F401 - the library is no part of the store's memory

    before = _resident_mb()
    opened = _timed(lambda: Manifest.open(folder))
    manifest = Manifest.open(folder)
    after_open = _resident_mb()
    drawn = np.random.default_rng(0)

    def paths() -> Iterator[Path]:
        for place in drawn.integers(len(manifest), size=reads).tolist():
            yield manifest.image_path(manifest.cases[place], "he")

    found = {
        "row": _rate(reads, lambda: sum(1 for _ in paths())),
        "row_and_bytes": _rate(reads, lambda: [_bytes(path) for path in paths()]),
        "row_bytes_and_pixels": _rate(reads, lambda: [read_image(p).white for p in paths()]),
    }
    return {
        "open": opened,
        "open_mb": round(after_open - before, 1),
        "random_reads": reads,
        **found,
        "after_all_mb": round(_resident_mb() - before, 1),
        "resident_mb": round(_resident_mb(), 1),
    }


def _beside_each_other(folder: Path, reads: int, workers: int) -> dict[str, float]:
    """Read and decode tiles in several processes at once, each at random places of its own."""
    share = reads // workers
    with _CONTEXT.Pool(workers) as pool:
        pool.map(_open, [folder] * workers, chunksize=1)  # libraries are no part of the rate
        wall = time.perf_counter()
        cpu = sum(pool.map(_decode, [(folder, share, n) for n in range(workers)], chunksize=1))
        seconds = time.perf_counter() - wall
    return {
        "workers": workers,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu, 3),
        "tiles_per_second": round(workers * share / seconds, 1),
        "tiles_per_cpu_second": round(workers * share / cpu, 1),
    }


def _open(folder: Path) -> int:
    manifest = Manifest.open(folder)
    return int(read_image(manifest.image_path(manifest.cases[0], "he")).white)


def _decode(asked: tuple[Path, int, int]) -> float:
    folder, reads, seed = asked
    manifest = Manifest.open(folder)
    cpu = time.process_time()
    for place in np.random.default_rng(seed).integers(len(manifest), size=reads).tolist():
        read_image(manifest.image_path(manifest.cases[place], "he"))
    return time.process_time() - cpu


def _gpu() -> dict[str, Any]:
    flops = _TRAIN_FLOPS + _ENCODE_FLOPS
    return {
        "name": _GPU,
        "peak_tflops": _PEAK_FLOPS / 1e12,
        "flops_per_tile": flops,
        "tiles_per_second_at_peak": round(_PEAK_FLOPS / flops, 1),
        "seconds_per_batch_of_48_at_peak": round(_BATCH * flops / _PEAK_FLOPS, 3),
    }


def _bytes(path: Path) -> int:
    row = row_of(path)
    return 0 if row is None else len(read_row(path, row))


def _rate(reads: int, do: Callable[[], object]) -> dict[str, float]:
    took = _timed(do)
    second = took["cpu_seconds"] or float("inf")
    return {
        **took,
        "tiles_per_cpu_second": round(reads / second, 1),
        "cpu_seconds_per_batch_of_48": round(_BATCH * second / reads, 4),
    }


def _timed(do: Callable[[], object]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    do()
    return {
        "seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }


def _resident_mb() -> float:
    """Return this process's own memory; pages of a mapped file are the system's to take back."""
    told = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = next(line.split()[1] for line in told.splitlines() if line.startswith("RssAnon"))
    return int(kilobytes) / 1024


if __name__ == "__main__":
    main()
