"""The log of a training run's losses, and the stop at one that is not finite."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from voxella.files import append_line, write_text_atomic
from voxella.workspace.state import StateLines

__all__ = ["LOSSES", "LossLog", "NonFiniteLossError", "peak_memory_gib"]


# A step and its scalars; a step is a whole number, though the form does not say it.
LOSSES: StateLines[dict[str, float]] = StateLines(dict[str, float], needs=("step",))


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite.

    Attributes:
        case_ids: The cases of this step whose loss is not finite.
    """

    def __init__(self, step: int, case_ids: list[str]) -> None:
        self.case_ids = case_ids
        super().__init__(f"the loss of step {step} is not finite, at cases {', '.join(case_ids)}")


def peak_memory_gib() -> float:
    """Return this process's peak memory in GiB: of its GPU, or else resident."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class LossLog:
    """``RUN/train/log.jsonl``: a step's losses, validation among them, one JSON object a line.

    Args:
        path: The file.
        first_step: Steps done before; later lines of an interrupted run are dropped.
    """

    def __init__(self, path: Path, *, first_step: int) -> None:
        self.path = path
        kept = [line for line in LOSSES.read(path) if line["step"] <= first_step]
        write_text_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """Append one step."""
        append_line(self.path, json.dumps({"step": step, **scalars}))
