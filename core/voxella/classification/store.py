"""Classifier inputs on the disk: made once, read at every visit, by every scenario and seed.

A volume of the paper's size takes a second to read and to bring to a classifier's input; 16,000
steps of 16 cases would take three days of that. A ready input is 4 MB in half precision.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from voxella.classification.examples import Example
from voxella.classification.images import INPUT_SETTINGS, as_input, read_image
from voxella.engine.ranks import Ranks
from voxella.engine.runtime import agreed
from voxella.errors import UserError
from voxella.files import atomic_path, sha256_json
from voxella.machine import raise_if_machine
from voxella.progress import Steps
from voxella.recipe.classification import Classify

__all__ = ["InputStore"]

# Raised when the same settings give other inputs than before.
_METHOD = 1
_KEEP_BYTES = 2**30
_THREADS = 4


class InputStore:
    """Inputs by example, in ``folder/<settings>/<identity>.safetensors``.

    Args:
        folder: Shared by all scenarios that read the same prepared data.
        settings: The recipe's block.
        sequences: Image channels, in order.
        keep_bytes: How much to keep in memory.
    """

    def __init__(
        self,
        folder: Path,
        settings: Classify,
        sequences: Sequence[str],
        *,
        keep_bytes: int = _KEEP_BYTES,
    ) -> None:
        chosen = settings.model_dump(mode="json", include=set(INPUT_SETTINGS))
        self.settings = settings
        self.sequences = tuple(sequences)
        self.key = sha256_json([_METHOD, chosen, self.sequences])
        self.folder = Path(folder) / self.key[:16]
        self._kept: dict[str, tuple[Tensor, Tensor]] = {}
        self._room = keep_bytes

    def path(self, example: Example) -> Path:
        """Return an input's file."""
        return self.folder / f"{example.identity[:32]}.safetensors"

    def build(self, examples: Iterable[Example], ranks: Ranks) -> int:
        """Make this process's share of the inputs that are absent, and return how many; collective.

        Raises:
            UserError: Naming every case whose image cannot serve, when all others are done.
        """
        everything = list(examples)
        # One list for all: a process that looks while another writes would share it out otherwise.
        absent = agreed([n for n, e in enumerate(everything) if not self.path(e).is_file()])
        mine = [everything[absent[index]] for index in ranks.share(len(absent))]
        problems: list[str] = []
        workers = min(_THREADS, os.cpu_count() or 1)
        with (
            Steps("classifier inputs", len(mine), quiet=not ranks.is_main) as steps,
            ThreadPoolExecutor(workers) as pool,
        ):
            for problem in pool.map(self._make, mine):
                problems += problem
                steps.advance()
        if problems:
            raise UserError(
                "\n".join([f"{len(problems)} image(s) cannot be classified:", *problems]),
                remedy="voxella prepare RECIPE for real ones, voxella sample RECIPE for synthetic",
            )
        return len(mine)

    def read(self, example: Example) -> tuple[Tensor, Tensor]:
        """Return an input ``(C, *size)`` float32 in [0, 1] and its spacing ``(n,)`` in mm."""
        found = self._kept.get(example.identity)
        if found is None:
            tensors = load_file(self.path(example))
            found = (tensors["image"], tensors["spacing_mm"])
            if found[0].nbytes <= self._room:
                self._kept[example.identity] = found
                self._room -= found[0].nbytes
        return found[0].float(), found[1]

    def _make(self, example: Example) -> list[str]:
        """Write one input; return what is wrong with it."""
        try:
            image, spacing_mm = read_image(
                example.manifest, example.case, self.sequences, len(self.settings.size)
            )
            image, spacing_mm = as_input(image, spacing_mm, self.settings)
        except UserError as error:
            raise_if_machine(error)
            return [f"  case {example.case.id}: {error.problem}"]
        with atomic_path(self.path(example)) as temporary:
            save_file({"image": image.to(torch.float16), "spacing_mm": spacing_mm}, temporary)
        return []
