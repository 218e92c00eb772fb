"""Meets the other processes of its job, for tests/test_engine_meeting.py.

    python meeting_driver.py [SECONDS]

Prints what every process gave; with SECONDS, the first one then waits to be killed.
"""

from __future__ import annotations

import sys
import time

from voxella.engine.runtime import all_gather_object, start_distributed
from voxella.errors import UserError
from voxella.ranks import Ranks

if __name__ == "__main__":
    ranks = Ranks.from_environment()
    try:
        start_distributed(ranks)
    except UserError as error:
        sys.exit(str(error))
    print("met", all_gather_object(ranks.rank), flush=True)
    if len(sys.argv) > 1 and ranks.is_main:
        time.sleep(float(sys.argv[1]))
