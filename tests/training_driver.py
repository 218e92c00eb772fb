"""Trains tiny runs under several ZeRO stages in one job, for tests/test_engine_training.py.

    python training_driver.py FOLDER STAGE[,STAGE...] PLAN[,PLAN...] [A.B=C ...]

A plan is ``whole`` (to the end), ``stop`` (killed after step 2) or ``go`` (continue that one). Each
ends as FOLDER/<plan>-<stage>; ``go`` continues in the folder of ``stop``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tiny_run import encoded_run, tiny_recipe

from voxella.engine.runtime import barrier, start_distributed
from voxella.ldm.train import train
from voxella.ranks import Ranks


def main() -> None:
    folder, stages, plans, overrides = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
    ranks = Ranks.from_environment()
    start_distributed(ranks)
    for stage in stages.split(","):
        for plan in plans.split(","):
            run = folder / f"{'whole' if plan == 'whole' else 'resumed'}-{stage}"
            recipe = tiny_recipe(
                f"deepspeed.zero_optimization.stage={stage}", "train.log_every=1", *overrides
            )
            if ranks.is_main and not (run / "latents").exists():
                encoded_run(recipe, run, held_out=3)
            barrier()
            train(recipe, run, stop_after=2 if plan == "stop" else None)


if __name__ == "__main__":
    main()
