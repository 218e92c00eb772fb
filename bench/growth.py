"""How sampling and evaluation grow with a data set, each beside the way it was done before.

    python bench/growth.py --json bench/results/growth-2cores.json

Three parts whose cost once grew faster than it must: the moments of every draw of an FID interval
taken from all slices anew, every volume hashed by every process, and two manifests read for each
volume that is put on its scan's grid. Seconds depend on the machine; the ratios are of one run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from device_peak import describe_device, synchronize
from result import publish

from voxella.case import Case, Manifest
from voxella.engine.hashes import shared_hashes
from voxella.metrics.bootstrap import replicate_draws
from voxella.metrics.distances.frechet_draws import frechet_statistic, frechet_values
from voxella.metrics.resampling import Rows
from voxella.metrics.vectors import VectorSet
from voxella.ranks import Ranks

_PROCESSES = (1, 2, 8)
# At each size and at twice and four times as many cases.
_TIMES = (1, 2, 4)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = {
        "what": "growth",
        "device": describe_device(device),
        "fid": [_fid(arguments, times, device) for times in _TIMES],
        "hashing": _hashing(arguments),
        "manifests": [_manifests(arguments.cases * times) for times in _TIMES],
    }
    publish(result, arguments.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=40, help="patients; also twice and four times")
    parser.add_argument("--slices", type=int, default=256, help="vectors of a patient")
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--draws", type=int, default=48)
    parser.add_argument("--megabytes", type=float, default=8.0, help="of a volume to hash")
    parser.add_argument("--json", type=Path, help="keep the result here")
    return parser.parse_args()


def _fid(arguments: argparse.Namespace, times: int, device: torch.device) -> dict[str, Any]:
    """Time an interval's draws: all at once, shared by eight, and each from all rows."""
    cases = arguments.cases * times
    real, made = (_slices(cases, arguments, seed) for seed in (0, 1))
    alone = frechet_statistic(real, made, device=device)
    # Few draws the old way: each costs the same.
    few = max(2, arguments.draws // 12)
    together, values = _timed(
        lambda: frechet_values(real, made, _draws(real, made, arguments.draws), device=device)
    )
    share, _ = _timed(
        lambda: frechet_values(
            real, made, _draws(real, made, arguments.draws), blocks=(0, 8), device=device
        )
    )
    anew, known = _timed(
        lambda: np.array(
            [alone(*rows) for rows in islice(_draws(real, made, arguments.draws), few)]
        )
    )
    each, before = together / arguments.draws, anew / few
    return {
        "patients": cases,
        "vectors": len(real),
        "features": arguments.features,
        "draws": arguments.draws,
        "seconds_a_draw": round(each, 5),
        "seconds_a_draw_before": round(before, 5),
        "times_faster": round(before / each, 1),
        "times_faster_in_eight_processes": round(before * arguments.draws / share, 1),
        "largest_relative_difference": float(np.abs(values[:few] / known - 1).max()),
    }


def _draws(real: VectorSet, made: VectorSet, count: int) -> Iterator[list[Rows]]:
    groups = (real.patients, made.patients)
    return replicate_draws(groups, seed=0, name="growth", paired=True, replicates=count)


def _slices(cases: int, arguments: argparse.Namespace, seed: int) -> VectorSet:
    generator = np.random.default_rng(seed)
    each, width = arguments.slices, arguments.features
    centres = np.repeat(generator.normal(0.1 * seed, 1.0, (cases, width)), each, axis=0)
    values = (centres + generator.normal(0.0, 1.0, centres.shape)).astype(np.float32)
    names = [f"case-{case:05d}" for case in range(cases) for _ in range(each)]
    return VectorSet.of(values, names)


def _hashing(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Hash the volumes of a data set as one of several processes, and as each process did."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.nii.gz") for number in range(arguments.cases)]
        content = np.random.default_rng(0).bytes(int(arguments.megabytes * 1e6))
        for path in paths:
            path.write_bytes(content)
        everything = partial(shared_hashes, paths)
        before, _ = _timed(everything)
        rows = []
        for processes in _PROCESSES:
            now, found = _timed(partial(everything, Ranks(0, 0, processes)))
            rows.append(
                {
                    "volumes": len(paths),
                    "processes": processes,
                    "volumes_a_process": len(found),
                    "volumes_a_process_before": len(paths),
                    "times_faster": round(before / now, 1),
                }
            )
        return rows


def _manifests(cases: int) -> dict[str, Any]:
    """Find the scan of every case: in a manifest read once, and in two read for each volume."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"case-{number:05d}" for number in range(cases)]
        made = [Case(id=name, group=name, images={"t2w": f"{name}.nii.gz"}) for name in names]
        Manifest(Path(folder), made).write()

        def once() -> None:
            known = {case.id: case for case in Manifest.read(Path(folder))}
            for name in names:
                known[name]

        def anew() -> None:
            for name in names:
                for _ in ("prepared", "dataset"):
                    next(case for case in Manifest.read(Path(folder)) if case.id == name)

        # The first reading also finds the file.
        now, before = min(_timed(once)[0] for _ in range(5)), _timed(anew)[0]
    return {
        "cases": cases,
        "milliseconds_a_volume": round(1000 * now / cases, 4),
        "milliseconds_a_volume_before": round(1000 * before / cases, 3),
        "times_faster": round(before / now, 1),
    }


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds and what was found; without a GPU of this process alone."""
    if not torch.cuda.is_available():
        start = time.process_time()
        found = work()
        return time.process_time() - start, found
    device = torch.device("cuda")
    synchronize(device)
    start = time.perf_counter()
    found = work()
    synchronize(device)
    return time.perf_counter() - start, found


if __name__ == "__main__":
    main()
