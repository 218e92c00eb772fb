"""A procedural prostate phantom: T2-like volumes with known truth and free-text reports.

Nothing heavy is imported here; ``plugin.py`` is what the entry point names, ``truth.py`` reads
back what was drawn.
"""

from __future__ import annotations
