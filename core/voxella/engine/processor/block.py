"""The ``deepspeed:`` block as this job computes it: what shards nothing or slows is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from voxella.engine.checkpoints import begun_alone
from voxella.engine.precision import autocast_dtype
from voxella.engine.processor.speed import bfloat16_gain, bfloat16_pays
from voxella.engine.runtime import broadcast_object
from voxella.engine.sharding import offloads, zero_stage
from voxella.ranks import Ranks
from voxella.terminal import print_line

__all__ = ["block_here"]


def block_here(block: dict[str, Any], ranks: Ranks, checkpoints: Path) -> dict[str, Any]:
    """Return a checked block as it is taken here, and print what is taken otherwise; collective.

    On one process ZeRO shards nothing, but copies every gradient and weight: stage 0 is taken.
    Stage and precision of the recipe stay its fingerprint: the block is asked for, this is how.

    - A block that offloads needs its stage; so does ``bf16:``, whose float32 originals stage 0
      keeps in another way.
    - A training that was begun on one process under a stage is continued under it.
    - Autocast to bfloat16 is left out on a processor that is slower in it.

    Args:
        block: The recipe's.
        ranks: This process.
        checkpoints: Folder of the training's checkpoints; it need not be there.
    """
    taken, notes = dict(block), []
    stage = zero_stage(block)
    cast = (block.get("bf16") or {}).get("enabled", False)
    if stage and ranks.world == 1 and not (cast or offloads(block)):
        if begun_alone(checkpoints, ranks) == stage:
            notes.append(f"ZeRO stage {stage}: as the checkpoint was written; new ones take 0")
        else:
            taken["zero_optimization"] = {"stage": 0}
            notes.append(f"ZeRO stage 0: on one process stage {stage} shards nothing")
    autocast = (block.get("torch_autocast") or {}).get("enabled", False)
    if autocast and autocast_dtype(block) == "bfloat16" and ranks.device.type == "cpu":
        gain, pays = broadcast_object((bfloat16_gain(), bfloat16_pays()))
        told = f"{gain:.1f} times as fast as float32 on this processor"
        if pays:
            notes.append(f"computing in bfloat16, {told}")
        else:
            taken["torch_autocast"] = None
            notes.append(f"computing in float32: bfloat16 is {told}")
    for note in notes:
        print_line(f"note: {note}", quiet=not ranks.is_main)
    return taken
