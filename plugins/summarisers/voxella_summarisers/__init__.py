"""Reports to short summaries, which captions are made of.

Nothing heavy is imported here; ``plugin.py`` is what the entry points name.
"""

from __future__ import annotations
