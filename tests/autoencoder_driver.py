"""Trains tiny autoencoders under many settings in one job, for tests/test_autoencoder_task.py.

    python autoencoder_driver.py FOLDER

Reads FOLDER/plans.json, ``{name: {training, network, stop, tiles}}``, and trains each into
FOLDER/<name> on the images of FOLDER/prepared. ``stop`` is a step after which it stops once and
goes on; with ``tiles`` the images are tiles and the training is latent diffusion's.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

from tiny_autoencoder import KL, recipe
from tiny_first_stage import recipe_of_tiles

from voxella.autoencoder.train import train_autoencoder
from voxella.engine.runtime import barrier


def main() -> None:
    folder = Path(sys.argv[1])
    gc.freeze()  # DeepSpeed collects garbage at every turn
    for name, plan in json.loads((folder / "plans.json").read_text()).items():
        wanted = (
            recipe_of_tiles(plan["training"])
            if plan.get("tiles")
            else recipe(plan["training"], autoencoder=plan.get("network", KL))
        )
        if "stop" in plan:
            found = train_autoencoder(
                wanted, folder / "prepared", folder / name, stop_after=plan["stop"]
            )
            assert found is None
            barrier()
        train_autoencoder(wanted, folder / "prepared", folder / name)


if __name__ == "__main__":
    main()
