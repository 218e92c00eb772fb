"""Many processes of one job, forked from one that has imported everything: cheap enough for 64.

python tests/world_driver.py WORLD ARGUMENTS OF voxella ...
"""

from __future__ import annotations

import os
import sys

import torch

# Each process has a core's share of one thread; a pool of threads would not survive the fork.
torch.set_num_threads(1)


def main(world: int, words: list[str]) -> int:
    """Start the processes and return the highest of their exit codes."""
    import deepspeed  # noqa: F401 - seconds, once for all

    from voxella.cache import stage as _encode  # noqa: F401
    from voxella.cli import main as voxella
    from voxella.evaluation import stage as _evaluate  # noqa: F401
    from voxella.sampling import stage as _sample  # noqa: F401

    children = []
    for rank in range(world):
        pid = os.fork()
        if pid == 0:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world}
            os.environ.update({name: str(value) for name, value in place.items()})
            os.environ["LOCAL_WORLD_SIZE"] = str(world)
            code = 1
            try:
                code = voxella(words)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(pid)
    return max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
