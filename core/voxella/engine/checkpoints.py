"""Checkpoints for resuming under DeepSpeed: what it saves, the average, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from voxella.engine.checkpoint_store import CheckpointStore, Marker
from voxella.engine.ema import Ema
from voxella.engine.saved_state import read_state, write_state
from voxella.errors import UserError
from voxella.files import remove
from voxella.ranks import Ranks

__all__ = ["Checkpoints", "Provenance", "begun_alone"]

_SCALE = "loss_scale"
_SECOND = "second.pt"


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
    latent_scale: float | tuple[float, ...]


class Checkpoints:
    """The checkpoints of one run of the training loop; every process takes part in every call.

    Args:
        folder: ``RUN/checkpoints``.
        keep: How many complete ones stay.
        ranks: This process.
        zero_stage: The ZeRO stage of the engine saved.
    """

    def __init__(self, folder: Path, *, keep: int, ranks: Ranks, zero_stage: int) -> None:
        self.folder = folder
        self.ranks = ranks
        # Under stage 3 every process averages its own partition and saves it.
        self.sharded = zero_stage == 3
        self._store = CheckpointStore(folder, keep=keep, ranks=ranks)

    def complete(self) -> list[tuple[int, Path]]:
        """Return ``(step, folder)`` of every complete checkpoint, oldest first; not collective."""
        return self._store.complete()

    def are_of_another(self, recipe_sha256: str) -> bool:
        """Return whether the newest checkpoint is of another recipe or data; not collective."""
        facts = self._store.newest_facts()
        return facts is not None and facts.get("recipe_sha256") != recipe_sha256

    def save(
        self,
        engine: Any,  # noqa: ANN401 - DeepSpeed ships no types
        ema: Ema | None,
        step: int,
        provenance: Provenance,
        scale: dict[str, float],
        second: Mapping[str, Any] | None = None,
    ) -> Path:
        """Save after optimizer step ``step``.

        Args:
            engine: The DeepSpeed engine.
            ema: The average, if one is kept.
            step: Optimizer steps done.
            provenance: Whose the checkpoint is.
            scale: State of the loss scale.
            second: State of a second optimizer and its network, the same on every process.
        """
        partial = self._store.begin(step)
        engine.save_checkpoint(
            str(self.folder),
            tag=partial.name,
            save_latest=False,
            client_state={_SCALE: scale},
        )
        if self.ranks.is_main:
            # DeepSpeed's own, which load pickles with all they may do.
            for script in self.folder.glob("zero_to_*.py"):
                remove(script)
        written = dict(engine.checkpoint_engine.written)
        if ema is not None and (self.ranks.is_main or self.sharded):
            path = partial / self._ema_file()
            written[path] = write_state(path, ema.state_dict())
        if second is not None and self.ranks.is_main:
            path = partial / _SECOND
            written[path] = write_state(path, second)
        return self._store.finish(partial, step, asdict(provenance), written)

    def newest(self, expected: Provenance) -> int | None:
        """Return the step of the newest sound checkpoint, or None.

        One whose files are not what was written is passed over, and named.

        Raises:
            UserError: A checkpoint differs from ``expected`` in recipe, processes or ZeRO stage; or
                there are checkpoints, and none is sound.
        """

        def accept(path: Path, marker: Marker) -> None:
            _refuse_mismatch(path, Provenance(**marker.facts), expected)

        found = self._store.newest(accept)
        return None if found is None else found.step

    def load(self, engine: Any, ema: Ema | None, step: int) -> dict[str, float]:  # noqa: ANN401 - DeepSpeed ships no types
        """Continue from the complete checkpoint of ``step``.

        Returns:
            The state of the loss scale; empty where a checkpoint has none.

        Raises:
            UserError: A file of it is damaged, or holds what may run code.
        """
        path = self._store.path(step)
        loaded, kept = engine.load_checkpoint(str(self.folder), tag=path.name)
        remedy = f"rm -r {path} to go on from the one before it"
        if loaded is None:
            raise UserError(f"{path}: DeepSpeed could not load this checkpoint", remedy=remedy)
        if ema is not None:
            device = ema.shadow[0].device if ema.shadow else "cpu"
            ema.load_state_dict(read_state(path / self._ema_file(), device=device, remedy=remedy))
        scale: dict[str, float] = kept.get(_SCALE, {})
        return scale

    def load_second(self, step: int) -> dict[str, Any]:
        """Return the state of the second optimizer and its network, as it was saved.

        Raises:
            UserError: The file is damaged, or holds what may run code.
        """
        path = self._store.path(step)
        remedy = f"rm -r {path} to go on from the one before it"
        state: dict[str, Any] = read_state(path / _SECOND, remedy=remedy)
        return state

    def _ema_file(self) -> str:
        return f"ema-rank{self.ranks.rank:05d}.pt" if self.sharded else "ema.pt"


def begun_alone(folder: Path, ranks: Ranks) -> int | None:
    """Return the ZeRO stage of the newest checkpoint of one process; None: there is none."""
    facts = CheckpointStore(folder, keep=1, ranks=ranks).newest_facts()
    if facts is None or facts.get("world") != 1:
        return None
    return int(facts["zero_stage"])


def _refuse_mismatch(path: Path, stored: Provenance, expected: Provenance) -> None:
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
