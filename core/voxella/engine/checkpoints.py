"""Checkpoints for resuming: DeepSpeed's, made atomic, the newest complete one found by itself."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from voxella.engine.ema import Ema
from voxella.engine.ranks import Ranks
from voxella.engine.runtime import barrier
from voxella.errors import UserError
from voxella.files import make_folder, write_json_atomic

__all__ = ["Checkpoints", "Provenance"]

_COMPLETE = "complete.json"
_PARTIAL = ".partial-step-"
_SCALE = "loss_scale"
_NAME = re.compile(r"step-(\d{8})$")


@dataclass(frozen=True)
class Provenance:
    """What must be equal for a checkpoint to be continued.

    Attributes:
        recipe_sha256: Hash of what decides the training.
        world: Processes; DeepSpeed's ZeRO checkpoints are cut by it.
        zero_stage: The ZeRO stage.
        latent_scale: The factor on latents, for the record: a function of caches and recipe, whose
            hashes are compared.
    """

    recipe_sha256: str
    world: int
    zero_stage: int
    latent_scale: float


class Checkpoints:
    """The checkpoint folder of one run.

    A checkpoint is written under a partial name; when every process is done, ``complete.json`` goes
    in and the folder is renamed. A kill at any moment leaves the earlier ones whole.

    Args:
        folder: ``RUN/checkpoints``.
        keep: How many complete ones stay.
        ranks: This process.
        zero_stage: The ZeRO stage of the engine saved.
    """

    def __init__(self, folder: Path, *, keep: int, ranks: Ranks, zero_stage: int) -> None:
        self.folder = folder
        self.keep = keep
        self.ranks = ranks
        # Under stage 3 every process averages its own partition and saves it.
        self.sharded = zero_stage == 3

    def complete(self) -> list[tuple[int, Path]]:
        """Return ``(step, folder)`` of every complete checkpoint, oldest first."""
        found = []
        for path in self.folder.glob("step-*"):
            match = _NAME.search(path.name)
            if match and (path / _COMPLETE).is_file():
                found.append((int(match[1]), path))
        return sorted(found)

    def save(
        self,
        engine: Any,  # noqa: ANN401 - DeepSpeed ships no types
        ema: Ema | None,
        step: int,
        provenance: Provenance,
        scale: dict[str, float],
    ) -> Path:
        """Save after optimizer step ``step``, with the state of the loss scale; collective."""
        final = self.folder / f"step-{step:08d}"
        partial = self.folder / f"{_PARTIAL}{step:08d}"
        if self.ranks.is_main:
            for leftover in self.folder.glob(f"{_PARTIAL}*"):  # of a kill
                shutil.rmtree(leftover, ignore_errors=True)
            make_folder(self.folder)
        barrier()
        engine.save_checkpoint(
            str(self.folder),
            tag=partial.name,
            save_latest=False,
            client_state={_SCALE: scale},
        )
        if ema is not None and (self.ranks.is_main or self.sharded):
            torch.save(ema.state_dict(), partial / self._ema_file())
        barrier()
        if self.ranks.is_main:
            write_json_atomic(partial / _COMPLETE, {"step": step, **asdict(provenance)})
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            self._prune()
        barrier()
        return final

    def peek(self, expected: Provenance | None = None) -> tuple[int, Provenance] | None:
        """Return the newest complete checkpoint's step and provenance, or None.

        Raises:
            UserError: When ``expected`` differs in recipe, processes or ZeRO stage.
        """
        found = self.complete()
        if not found:
            return None
        step, path = found[-1]
        facts = json.loads((path / _COMPLETE).read_text(encoding="utf-8"))
        facts.pop("step")
        stored = Provenance(**facts)
        if expected is not None:
            self._refuse_mismatch(path, stored, expected)
        return step, stored

    def load(self, engine: Any, ema: Ema | None, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Continue from the complete checkpoint of ``step``; collective.

        Returns:
            The state of the loss scale; empty where a checkpoint has none.
        """
        path = self.folder / f"step-{step:08d}"
        loaded, kept = engine.load_checkpoint(str(self.folder), tag=path.name)
        if loaded is None:
            raise UserError(
                f"{path}: DeepSpeed could not load this checkpoint",
                remedy=f"remove {path} to fall back on the one before it",
            )
        if ema is not None:
            device = ema.shadow[0].device if ema.shadow else "cpu"
            ema.load_state_dict(
                torch.load(path / self._ema_file(), map_location=device, weights_only=True)
            )
        scale: dict[str, float] = kept.get(_SCALE, {})
        return scale

    def _ema_file(self) -> str:
        return f"ema-rank{self.ranks.rank:05d}.pt" if self.sharded else "ema.pt"

    def _prune(self) -> None:
        for _, path in self.complete()[: -self.keep]:
            shutil.rmtree(path, ignore_errors=True)

    def _refuse_mismatch(self, path: Path, stored: Provenance, expected: Provenance) -> None:
        if stored.recipe_sha256 != expected.recipe_sha256:
            raise UserError(
                f"{path} was trained by another recipe than the one given, or on other data",
                remedy="voxella recipe diff RUN/recipe.yaml RECIPE shows how recipes differ; give "
                "the same recipe and data, or another --out",
            )
        mine, theirs = (expected.zero_stage, expected.world), (stored.zero_stage, stored.world)
        # Stage 0 keeps whole tensors, so any number of processes can continue it.
        if mine != theirs and not (mine[0] == theirs[0] == 0):
            raise UserError(
                f"{path} was written by {stored.world} processes under ZeRO stage "
                f"{stored.zero_stage}; this job has {expected.world} under stage "
                f"{expected.zero_stage}, and DeepSpeed's checkpoints are cut by both",
                remedy=f"launch with {stored.world} processes and "
                f"--set deepspeed.zero_optimization.stage={stored.zero_stage}",
            )
