"""A procedural H&E phantom: stained tiles with known truth and a pathology report per slide.

Nothing heavy is imported here; ``plugin.py`` is what the entry point names, ``truth.py`` reads
back what was drawn.
"""

from __future__ import annotations
