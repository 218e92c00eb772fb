"""Spoil inputs and use them, in a process of its own with little memory and little time for each.

    python tests/fuzz/attack.py FOLDER FIRST COUNT [DOOR ...]

Writes FOLDER/outcomes.json. FOLDER/now says what is being tried, for the case that the process does
not live to say what happened.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.doors import DOORS
from voxella.errors import UserError

_SEED = 20261128
_MEMORY = 3 << 30
_SECONDS = 20


def main(folder: Path, first: int, count: int, names: list[str]) -> None:
    """Try numbers ``first`` to ``first + count - 1`` and write what came of them."""
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(folder)
    sound: dict[str, tuple[Path, list[str]]] = {}
    for name in names or list(DOORS):
        place = folder / "sound" / name.strip("-")
        place.mkdir(parents=True, exist_ok=True)
        victims = [path.name for path in DOORS[name].make(place)]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = DOORS[name].call(_copied(place, folder))
        assert code == 0, f"{name}: not even sound files are taken: {said.getvalue()}"
        sound[name] = place, victims
    _limit_memory()
    (folder / "so-far.json").write_text('{"outcomes": {}, "wrong": [], "slowest": 0.0}')
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    for number in range(first, first + count):
        name = list(sound)[number % len(sound)]
        began = time.monotonic()
        outcome, told = _tried(name, *sound[name], number, folder)
        took = time.monotonic() - began
        slowest = max(slowest, took)
        outcomes[f"{name}: {outcome}"] += 1
        if outcome == "wrong":
            wrong.append(f"{number} ({name}, {told}")
        found = {"outcomes": outcomes, "wrong": wrong, "slowest": slowest}
        (folder / "so-far.json").write_text(json.dumps(found))
    (folder / "so-far.json").replace(folder / "outcomes.json")


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _copied(sound: Path, folder: Path) -> Path:
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    return Path(shutil.copytree(sound, work))


def _tried(
    name: str, sound: Path, victims: list[str], number: int, folder: Path
) -> tuple[str, str]:
    """Spoil one file, use it, and judge how that ended."""
    random = np.random.default_rng([_SEED, number])
    work = _copied(sound, folder)
    victim = work / str(random.choice(victims))
    kind = DOORS[name].spoil(victim, random)
    what = f"{kind} of {victim.name})"
    (folder / "now").write_text(f"{number} ({name}, {what}")
    errors = io.StringIO()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(_SECONDS)
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = DOORS[name].call(work)
    except UserError as error:
        code = 2
        errors.write(str(error))
    except SystemExit as error:  # argparse
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        return "wrong", f"{what}: {_where(error)}"
    finally:
        signal.alarm(0)
    said = errors.getvalue()
    if code not in (0, 2):
        return "wrong", f"{what}: exit code {code}"
    if "Traceback" in said or (code == 2 and len(said) > 20_000):
        return "wrong", f"{what}: it says {said[:300]!r}"
    return ("taken" if code == 0 else "refused"), what


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"more than {_SECONDS} s")


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/voxella" in f.filename] or frames
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in ours[-3:][::-1])
    return f"{type(error).__name__}: {str(error)[:160]!r} at {places}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
