"""Seconds from a command to its first line: how long a user looks at nothing.

    python bench/startup.py --json bench/results/startup-2cores.json

``voxella plugins`` and ``voxella recipe validate`` are timed to their end, every other command to
the first line that it prints, on phantoms in a temporary folder. The processor's own seconds stand
beside those of the clock: on a machine that does other work too, these are the longer ones.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from device_peak import describe_device
from result import publish

_RECIPES = Path(__file__).parents[1] / "recipes"
_VOXELLA = [sys.executable, "-m", "voxella"]
# Seconds, and of what: the bounds, on a machine that does nothing else.
_WHOLE = {"plugins": 0.2, "recipe validate": 1.0}
_FIRST_LINE = 2.0


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        subprocess.run(
            [*_VOXELLA, "import", "phantom", "--out", str(data), "--set", "cases=8"],
            check=True,
            capture_output=True,
        )
        rows = [
            _measured(words, arguments.repeats, whole=words[0] in ("plugins", "recipe"))
            for words in _commands(folder, data)
        ]
    result = {
        "what": "startup",
        "device": describe_device(torch.device("cpu")),
        "repeats": arguments.repeats,
        "load_average": round(os.getloadavg()[0], 1),
        "commands": rows,
    }
    publish(result, arguments.json)


def _commands(folder: Path, data: Path) -> list[list[str]]:
    """Return every command that loads something; each stage starts where nothing is done yet."""
    recipe, classifier = str(_RECIPES / "ccella.yaml"), str(_RECIPES / "downstream" / "real.yaml")
    stages = ("prepare", "train-autoencoder", "check-autoencoder", "encode", "train", "sample")
    more = ["--profile", "smoke", "--dataset", str(data), "--out", str(folder / "run")]
    return [
        ["plugins"],
        ["recipe", "validate", recipe],
        ["import", "phantom", "--out", str(folder / "more")],
        ["check", str(data)],
        *([verb, recipe, *more] for verb in (*stages, "evaluate", "run")),
        ["classify", classifier, *more],
        ["study", str(_RECIPES / "studies" / "all.yaml"), "--profile", "smoke", "--dry-run"],
        ["plan", recipe, "--profile", "smoke"],
        ["report", str(folder)],
        ["export", "ccella", str(data), "--out", str(folder / "exported")],
    ]


def _measured(words: Sequence[str], repeats: int, *, whole: bool) -> dict[str, Any]:
    name = " ".join(words[: 2 if words[0] == "recipe" else 1])
    found = [_once(words, whole=whole) for _ in range(repeats)]
    clock, processor = (statistics.median(column) for column in zip(*found, strict=True))
    return {
        "command": name,
        "until": "its end" if whole else "its first line",
        "seconds": round(clock, 3),
        "processor_seconds": round(processor, 3),
        "target_seconds": _WHOLE.get(name, _FIRST_LINE),
    }


def _once(words: Sequence[str], *, whole: bool) -> tuple[float, float]:
    """Return seconds of the clock and of the processor until what is waited for."""
    started = time.perf_counter()
    # A session of its own: what the command has started goes with it.
    command = subprocess.Popen(
        [*_VOXELLA, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert command.stdout is not None, "asked for"
    line = command.stdout.read() if whole else command.stdout.readline()
    taken = time.perf_counter() - started
    if not whole:
        os.killpg(command.pid, 9)
    command.stdout.close()
    _, _, used = os.wait4(command.pid, 0)
    command.returncode = 0  # waited for
    if not line.strip():
        raise SystemExit(f"voxella {' '.join(words)} printed nothing")
    return taken, used.ru_utime + used.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="seconds to the first line of every command")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the result here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
