"""Watching a run: the dispatcher, and the built-in observers, each a plugin."""

from __future__ import annotations

from voxella.observers.dispatch import ObserverSet

__all__ = ["ObserverSet"]
