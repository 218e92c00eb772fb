"""``python -m voxella``, and so ``deepspeed --module voxella RECIPE``."""

import sys

from voxella.cli import main

sys.exit(main())
