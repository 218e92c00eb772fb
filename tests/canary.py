"""Canaries: a hospital whose reports, patients, ids and files can be told from all other words.

They are sought as UTF-8 and UTF-16, in files, inside what files pack, and in ``/proc``.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import threading
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from voxella.case import Manifest

__all__ = [
    "ID",
    "NAME",
    "PATIENT",
    "TEXT",
    "Watch",
    "contents",
    "hospital",
    "report",
    "traces_in",
]

# Report text: parts of it too, because a message may quote a beginning or break a line.
TEXT = ("ZEBRA-7731", "Mevrouw", "Jansen", "okkernoot")
PATIENT = ("OKAPI88",)
ID = ("IBEX42",)
NAME = ("TAPIR19",)  # what the hospital called its files
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


def report(number: int) -> str:
    """Return one case's report."""
    return (
        f"ZEBRA-7731 Mevrouw Jansen, nummer {number}: PI-RADS 4 in de perifere zone links,\n"
        f"zo groot als een okkernoot. Grootte 1,{number} cm."
    )


def hospital(folder: Path, phantom: Path, **changes: str) -> Path:
    """Write a table, and images under the hospital's names; return the table.

    Args:
        folder: Of both.
        phantom: A data set of six phantoms: its images and labels are taken.
        changes: Cells of the second row that are otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = ("train", "train", "train", "train", "val", "test")
    path = folder / "cases.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "patient", "t2w", "report", "label", "split"])
        for number, (case, split) in enumerate(zip(Manifest.read(phantom), splits, strict=True)):
            image = folder / f"TAPIR19 t2 {number}.nii.gz"
            shutil.copyfile(phantom / case.images["t2w"], image)
            row = {
                "id": f"IBEX42-{number}",
                "patient": f"OKAPI88-{number}",
                "t2w": image.name,
                "report": report(number),
                "label": "positive" if number % 2 else "negative",
                "split": split,
            }
            writer.writerow({**row, **(changes if number == 1 else {})}.values())
    return path


def contents(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, and what is packed inside it.

    safetensors, JSON, TensorBoard's events and Excel's members are plain once unpacked.
    """
    data = path.read_bytes()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield zlib.decompressobj(wbits=31).decompress(data)  # takes a truncated file, too
    if zipfile.is_zipfile(path):  # .npz, .pt, .xlsx
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
    if path.suffix == ".png":
        yield repr(Image.open(path).info).encode()


def traces_in(data: bytes, marks: Sequence[str] = TEXT) -> list[str]:
    """Return the marks that stand in data, whatever the case of their letters."""
    folded = data.lower()
    return [mark for mark in marks if any(mark.lower().encode(e) in folded for e in ENCODINGS)]


class Watch:
    """Looks, until it ends, at what anybody may read in ``/proc`` of this process's descendants.

    Attributes:
        seen: Command lines, environments and names of processes, by process.
    """

    def __init__(self) -> None:
        self.seen: dict[int, set[bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            for process in _descendants(os.getpid()):
                for name in ("cmdline", "environ", "comm"):
                    with contextlib.suppress(OSError):
                        data = Path(f"/proc/{process}/{name}").read_bytes()
                        self.seen.setdefault(process, set()).add(data)


def _descendants(process: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for word in (task / "children").read_text().split():
                yield int(word)
                yield from _descendants(int(word))
