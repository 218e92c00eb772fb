"""Faults at random points of every stage, then the same command again; as a table.

    make faults N=200        # writes docs/reference/results/reliability.md

A trial takes a copy of a finished run, removes one stage of it and what follows, and gives the
command of that stage with a fault: killed, told to stop, on a disk that fills up, under a limit of
file sizes or of open files, or with one damaged file. Then the same command is given again, without
the fault (or after what the message says to do), and its results are held against the undisturbed
run's, byte for byte. Every command runs in a fork of this process, which has imported everything:
a start takes milliseconds, and so do most stages of a smoke run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.damage import KINDS, call, copy_run, damage, own_files
from voxella.cli import main
from voxella.hashing import sha256_bytes, sha256_file

__all__ = ["FAULTS", "STAGES", "Bench", "Trial", "as_table"]

REPOSITORY = Path(__file__).parents[2]
# In order: what the stage's verb makes, in a run whose workspace is the run itself.
STAGES: dict[str, tuple[str, ...]] = {
    "prepare": ("dataset", "prepared"),
    "train-autoencoder": ("autoencoder",),
    "encode": ("latents", "text"),
    "train": ("train", "checkpoints", "model", "recipe.yaml"),
    "sample": ("samples",),
    "evaluate": ("evaluation",),
}
# What has to be the same, byte for byte; how latents are cut into shards is a matter of kills.
_EQUAL = (
    "dataset/manifest.jsonl",
    "dataset/images/*",
    "dataset/reports/*",
    "prepared/manifest.jsonl",
    "prepared/images/*",
    "autoencoder/model.safetensors",
    "model/model.safetensors",
    "model/conditions.safetensors",
    "samples/manifest.jsonl",
    "samples/volumes/*.nii.gz",
)
# The data set is the user's: that a report or an image in it has changed is no damaged state.
_DATA = re.compile(r"dataset/(images|reports|truth|manifest)")
_LONGEST_SECONDS = 300.0
_ROUNDS = 3


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal) and what it said."""

    code: int
    said: str

    @property
    def is_told(self) -> bool:
        """Return whether it ended well or with one message of ours, as a user would have it."""
        return self.code in (0, 2) and "Traceback (most" not in self.said


@dataclass(frozen=True)
class Trial:
    """One fault and what came of it.

    Attributes:
        fault: Its kind.
        stage: Where.
        detail: After how long, which file...
        first: How the command with the fault ended.
        met: Whether the fault came before the command's end.
        again: How the same command ended without it.
        equal: Whether its results are those of the undisturbed run.
    """

    fault: str
    stage: str
    detail: str
    first: Ended
    met: bool
    again: Ended
    equal: bool

    @property
    def is_told(self) -> bool:
        """Return whether the fault ended the command as it should."""
        if self.fault == "killed":
            return True
        if self.fault in ("terminated", "interrupted"):
            number = signal.SIGTERM if self.fault == "terminated" else signal.SIGINT
            said = "Traceback (most" not in self.first.said
            return said and self.first.code in (0, 2, 128 + number)
        return self.first.is_told

    @property
    def is_sound(self) -> bool:
        """Return whether nothing was lost."""
        return self.is_told and self.again.code == 0 and self.equal


@dataclass
class Bench:
    """A finished smoke run, to be disturbed in copies.

    Attributes:
        base: The run; its stages up to ``last`` are made where they are absent.
        place: Where copies go.
        last: The last stage.
    """

    base: Path
    place: Path
    last: str = "evaluate"
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # In a fork: the engine's process group has threads, which no later fork would have.
        # Then in this process, where all is up to date, so that every later fork has all imports.
        for ended in (self._run(self.base, self.last), call(self._words(self.base, self.last))):
            if ended.code != 0:
                raise RuntimeError(f"the undisturbed run: {ended.said[-2000:]}")
        for stage in self.stages:
            copy = self._without(stage, self.place / "timed")
            before = time.monotonic()
            self._run(copy, stage)
            self.seconds[stage] = time.monotonic() - before
            shutil.rmtree(copy)
        self.expected = self.results(self.base)

    @property
    def stages(self) -> list[str]:
        """Return the stages up to the last."""
        names = list(STAGES)
        return names[: names.index(self.last) + 1]

    def results(self, run: Path) -> dict[str, str]:
        """Return the hashes of what has to be the same."""
        found = {
            path.relative_to(run).as_posix(): sha256_file(path)
            for pattern in _EQUAL
            for path in run.glob(pattern)
        }
        metrics = run / "evaluation" / "metrics.json"
        if metrics.is_file():
            numbers = json.loads(metrics.read_bytes())["metrics"]
            found["metrics"] = sha256_bytes(json.dumps(numbers, sort_keys=True).encode())
        return found

    def trial(self, fault: str, dice: random.Random) -> Trial:
        """Make one trial; everything in it follows from the dice and the clock."""
        copy = self.place / "trial"
        shutil.rmtree(copy, ignore_errors=True)
        try:
            if fault == "damaged":
                return self._damaged(copy, dice)
            stage = dice.choice(self.stages)
            if fault == "full":
                return self._full(copy, stage, dice)
            return self._disturbed(copy, stage, fault, dice)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _disturbed(self, copy: Path, stage: str, fault: str, dice: random.Random) -> Trial:
        self._without(stage, copy)
        if fault in _SIGNALS:
            after = dice.uniform(0.0, self.seconds[stage])
            first = self._run(copy, stage, signalled=(_SIGNALS[fault], after))
            detail = f"after {after:.2f} s"
        else:
            limit, most = _LIMITS[fault](dice)
            first = self._run(copy, stage, before=lambda: _limit(limit, most))
            detail = f"{most}"
        return self._again(Trial(fault, stage, detail, first, first.code != 0, first, False), copy)

    def _full(self, copy: Path, stage: str, dice: random.Random) -> Trial:
        size = int(2 ** dice.uniform(14, 21))
        copy.mkdir()
        with _small_disk(copy) as resize:
            self._without(stage, copy / "run", copy_function=shutil.copy2)
            resize(_used(copy) + size)
            first = self._run(copy / "run", stage)
            resize(2**30)
            trial = Trial("full", stage, f"{size} B left", first, first.code != 0, first, False)
            return self._again(trial, copy / "run")

    def _damaged(self, copy: Path, dice: random.Random) -> Trial:
        copy_run(self.base, copy)
        name = dice.choice([n for n in own_files(copy) if not _DATA.match(n)])
        kind = dice.choice(list(KINDS))
        damage(copy / name, kind, dice)
        first = again = self._run(copy, self.last)
        for _ in range(_ROUNDS):
            if again.code != 2:
                break
            # As the message says.
            for path in _to_remove(again.said, copy):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            again = self._run(copy, self.last)
        equal = self.results(copy) == self.expected
        told = name if first.code == 0 or Path(name).name in first.said else f"{name}, unnamed"
        return Trial("damaged", self.last, f"{told} {kind}", first, True, again, equal)

    def _again(self, trial: Trial, copy: Path) -> Trial:
        again = self._run(copy, trial.stage)
        wanted = {
            name: value
            for name, value in self.expected.items()
            if (copy / name).exists() or not self._is_later(name, trial.stage)
        }
        equal = self.results(copy) == wanted
        fields = (trial.fault, trial.stage, trial.detail, trial.first, trial.met)
        return Trial(*fields, again, equal)

    def _is_later(self, name: str, stage: str) -> bool:
        later = list(STAGES)[list(STAGES).index(stage) + 1 :]
        top = "evaluation" if name == "metrics" else name.split("/")[0]
        return any(top in STAGES[one] for one in later)

    def _without(
        self, stage: str, copy: Path, copy_function: Callable[..., object] = os.link
    ) -> Path:
        """Copy the run but for a stage and what follows."""
        names = list(STAGES)
        gone = {name for one in names[names.index(stage) :] for name in STAGES[one]}
        shutil.copytree(
            self.base,
            copy,
            copy_function=copy_function,
            ignore=lambda folder, _: gone if Path(folder) == self.base else set(),
        )
        return copy

    def _run(
        self,
        run: Path,
        stage: str,
        *,
        before: Callable[[], None] = lambda: None,
        signalled: tuple[signal.Signals, float] | None = None,
    ) -> Ended:
        return _forked(self._words(run, stage), before, signalled)

    def _words(self, run: Path, stage: str) -> list[str]:
        recipe = str(REPOSITORY / "recipes" / "ccella.yaml")
        words = [stage, recipe, "--profile", "smoke", "--out", str(run), "--workers", "1"]
        return [*words, "--set", "observers=[]"]


_SIGNALS = {
    "killed": signal.SIGKILL,
    "terminated": signal.SIGTERM,
    "interrupted": signal.SIGINT,
}
_LIMITS: dict[str, Callable[[random.Random], tuple[int, int]]] = {
    "file size": lambda dice: (resource.RLIMIT_FSIZE, int(2 ** dice.uniform(8, 17))),
    "open files": lambda dice: (resource.RLIMIT_NOFILE, dice.randint(0, 5)),
}
FAULTS = (*_SIGNALS, *_LIMITS, "full", "damaged")


def _limit(which: int, most: int) -> None:
    if which == resource.RLIMIT_NOFILE:
        most += max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(which, (most, resource.getrlimit(which)[1]))


def _forked(
    words: list[str],
    before: Callable[[], None],
    signalled: tuple[signal.Signals, float] | None,
) -> Ended:
    """Run a command in a fork of this process."""
    read, write = os.pipe()  # no file, which a limit of file sizes would cut as well
    child = os.fork()
    if child == 0:
        _child(words, before, write)
    os.close(write)
    os.set_blocking(read, False)
    said = bytearray()
    began = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        passed = time.monotonic() - began
        if signalled is not None and passed >= signalled[1]:
            os.kill(child, signalled[0])
            signalled = None
        if passed > _LONGEST_SECONDS:
            os.kill(child, signal.SIGKILL)
        _drain(read, said)
        time.sleep(0.005)
    _drain(read, said)
    os.close(read)
    return Ended(os.waitstatus_to_exitcode(ended[1]), said.decode(errors="replace"))


def _drain(read: int, said: bytearray) -> None:
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(read, 2**16):
            said += chunk


def _child(words: list[str], before: Callable[[], None], log: int) -> None:
    code = 70
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), line_buffering=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), line_buffering=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        before()
        code = main(words)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


@contextlib.contextmanager
def _small_disk(place: Path) -> Iterator[Callable[[int], None]]:
    """Mount a disk whose size can be changed.

    Raises:
        PermissionError: It cannot be mounted here.
    """

    def mount(*options: str) -> None:
        done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
        if done.returncode:
            raise PermissionError(done.stderr.strip())

    mount("-t", "tmpfs", "-o", "size=1g", "tmpfs")
    try:
        yield lambda size: mount("-o", f"remount,size={size}")
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _used(place: Path) -> int:
    disk = os.statvfs(place)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def _to_remove(said: str, run: Path) -> list[Path]:
    """Return what the last message says to remove, where it lies in the run."""
    found = re.findall(r"rm (?:-r )?((?:/[^\s,;]+ ?)+)", said)
    named = [Path(word.rstrip(",;")) for text in found[-1:] for word in shlex.split(text)]
    return [path for path in named if path.is_relative_to(run) and path != run]


def as_table(trials: list[Trial]) -> list[str]:
    """Return the counts by kind of fault, as lines of Markdown."""
    heads = ("fault", "trials", "met it", "told", "went on", "same results")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for fault in dict.fromkeys(trial.fault for trial in trials):
        some = [trial for trial in trials if trial.fault == fault]
        counts = (
            len(some),
            sum(trial.met for trial in some),
            sum(trial.is_told for trial in some),
            sum(trial.again.code == 0 for trial in some),
            sum(trial.equal for trial in some),
        )
        lines.append("| " + " | ".join([fault, *map(str, counts)]) + " |")
    return lines


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=21)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, help="a run to begin with; default: made anew")
    parser.add_argument("--last", choices=list(STAGES), default="evaluate")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--write", type=Path, help="put the table into this page")
    return parser.parse_args()


def _written(page: Path, lines: list[str]) -> None:
    """Put the table between the page's two marks."""
    text = page.read_text(encoding="utf-8")
    marks = ("<!-- faults -->", "<!-- /faults -->")
    before, after = text.split(marks[0])[0], text.split(marks[1])[1]
    whole = f"{before}{marks[0]}\n{chr(10).join(lines)}\n{marks[1]}{after}"
    page.write_text(whole, encoding="utf-8")


def run_trials() -> int:
    """Make the trials that the command line asks for; exit code 1 where one was not sound."""
    given = _parsed()
    faults = given.faults.split(",")
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="voxella-faults-") as folder:
        place = Path(folder)
        base = place / "base"
        if given.base is not None:
            shutil.copytree(given.base, base)
        bench = Bench(base, place, given.last)
        for number in range(given.trials):
            fault = faults[number % len(faults)]
            try:
                trial = bench.trial(fault, random.Random(f"{given.seed}/{number}"))
            except PermissionError as error:
                print(f"{number}: {fault}: left out, {error}", flush=True)
                continue
            trials.append(trial)
            verdict = "sound" if trial.is_sound else "NOT SOUND"
            codes = f"{trial.first.code}, then {trial.again.code}"
            print(f"{number}: {fault} in {trial.stage}, {trial.detail}: {codes}: {verdict}")
            if not trial.is_sound:
                print("  ", "\n   ".join(trial.first.said.splitlines()[-12:]))
                print("  again:\n  ", "\n   ".join(trial.again.said.splitlines()[-6:]), flush=True)
    lines = [f"{len(trials)} trials, seed {given.seed}.", "", *as_table(trials)]
    print("\n".join(lines))
    if given.write is not None:
        _written(given.write, lines)
    return 0 if all(trial.is_sound for trial in trials) else 1


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.exit(run_trials())
