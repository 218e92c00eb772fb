"""Trained models in the forms that other code reads.

Nothing heavy is imported here; ``plugin.py`` is what the entry points name.
"""

from __future__ import annotations
