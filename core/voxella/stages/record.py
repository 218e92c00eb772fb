"""Stage records: what a stage did, from what, and whether that still holds."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from voxella.command import command_line
from voxella.files import sha256_json, write_json_atomic

__all__ = ["StageRecord", "versions"]

RECORD = "stage.json"


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a result, without importing them."""
    found = {"python": platform.python_version()}
    for package in ("voxella", "torch", "deepspeed", "monai", "transformers", "SimpleITK", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


class StageRecord:
    """One stage's ``stage.json``: written last, so its presence means the stage is complete.

    Args:
        folder: The stage's own folder.
        stage: Its name.
        inputs: Everything that decides the result, as JSON-ready data: the recipe's blocks, hashes
            of earlier records and of weights. Never report text.
    """

    def __init__(self, folder: Path, stage: str, inputs: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.stage = stage
        self.inputs = dict(inputs)
        self.hash = sha256_json(self.inputs)
        self._started = time.monotonic()

    @property
    def path(self) -> Path:
        """Return the record's file."""
        return self.folder / RECORD

    def previous(self) -> dict[str, Any] | None:
        """Return the record on disk, or None when there is none that can be read."""
        try:
            loaded: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return loaded

    def is_current(self) -> bool:
        """Tell whether the stage ran to its end on exactly these inputs."""
        previous = self.previous()
        return previous is not None and previous.get("inputs_sha256") == self.hash

    def invalidate(self) -> None:
        """Remove the record before work that changes the stage's folder."""
        self.path.unlink(missing_ok=True)

    def complete(self, **facts: Any) -> Path:  # noqa: ANN401 - any JSON value
        """Write the record; ``facts`` are results worth keeping (counts, measured numbers).

        How the stage was called is told too, and decides nothing: it is no input.
        """
        called = command_line()
        return write_json_atomic(
            self.path,
            {
                "stage": self.stage,
                "inputs_sha256": self.hash,
                "inputs": self.inputs,
                "facts": facts,
                "versions": versions(),
                **({} if called is None else {"command": called}),
                "seconds": round(time.monotonic() - self._started, 2),
            },
        )
