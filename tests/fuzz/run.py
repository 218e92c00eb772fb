"""Spoil inputs and use them, many thousand times, and tell what came of each kind.

    make fuzz N=10000        # writes docs/reference/results/inputs.md
    python tests/fuzz/attack.py FOLDER NUMBER 1     # one of them again, alone

Numbers are tried in processes of their own, some hundred in each. One that does not live to its end
(a crash inside a library) is counted as wrong, and the next takes over behind it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ATTACK = Path(__file__).with_name("attack.py")
_CHUNK = 500
_BEGIN, _END = "<!-- fuzz -->", "<!-- /fuzz -->"


@dataclass
class Found:
    """What came of all inputs: how many by ``door: outcome``, what went wrong, the slowest."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    def __iadd__(self, other: Found) -> Found:
        """Add what another process has found."""
        self.outcomes += other.outcomes
        self.wrong += other.wrong
        self.slowest = max(self.slowest, other.slowest)
        return self

    def table(self) -> str:
        """Return a row for each door."""
        names = sorted({key.rpartition(": ")[0] for key in self.outcomes})
        head = "| input | tried | taken | refused | wrong |\n|---|---|---|---|---|"
        rows = []
        for name in (*names, "all"):
            count = {
                what: sum(
                    n
                    for key, n in self.outcomes.items()
                    if key.rpartition(": ")[2] == what and name in ("all", key.rpartition(": ")[0])
                )
                for what in ("taken", "refused", "wrong")
            }
            shown = " | ".join(f"{n:,}" for n in (sum(count.values()), *count.values()))
            rows.append(f"| {name} | {shown} |")
        return "\n".join([head, *rows])


def attack(first: int, count: int) -> Found:
    """Try numbers in processes, one after the other where one dies."""
    found = Found()
    while count > 0:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "fuzz"
            command = [sys.executable, str(ATTACK), str(folder), str(first), str(count)]
            child = subprocess.run(command, capture_output=True, text=True, check=False)
            written = folder / "outcomes.json"
            if not written.is_file():
                # Not even sound files may have been taken: that is no matter of one number.
                assert (folder / "now").is_file(), child.stderr[-3000:]
            told = json.loads(
                (written if written.is_file() else folder / "so-far.json").read_text()
            )
            found += Found(Counter(told["outcomes"]), told["wrong"], told["slowest"])
            if child.returncode == 0:
                return found
            last = (folder / "now").read_text()
        number = int(last.partition(" ")[0])
        door = (re.search(r"\((\S+),", last) or [last, "?"])[1]
        found += Found(Counter({f"{door}: wrong": 1}), [f"{last}: ended with {child.returncode}"])
        count -= number + 1 - first
        first = number + 1
    return found


def main() -> int:
    """Try as many as are asked for; return 1 where one went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="page whose table is written anew")
    options = parser.parse_args()
    began = time.monotonic()
    found = Found()
    starts = range(options.first, options.first + options.count, _CHUNK)
    end = options.first + options.count
    with ThreadPoolExecutor(options.workers) as pool:
        for part in pool.map(lambda start: attack(start, min(_CHUNK, end - start)), starts):
            found += part
            print(f"{found.outcomes.total()}/{options.count}, {len(found.wrong)} wrong", flush=True)
    minutes = (time.monotonic() - began) / 60
    print(found.table(), *found.wrong, sep="\n")
    if options.write is not None:
        page = options.write.read_text(encoding="utf-8")
        told = f"`make fuzz N={options.count}`, {minutes:.0f} minutes, "
        told += f"the slowest {found.slowest:.1f} s."
        text = f"{_BEGIN}\n{told}\n\n{found.table()}\n{_END}"
        before, after = page.partition(_BEGIN)[0], page.partition(_END)[2]
        options.write.write_text(before + text + after, encoding="utf-8")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
