"""Plugins: kinds, contracts, and loading by name (see docs/how-to/plugins.md)."""

from voxella.plugins.specs import PROJECT, hookimpl

__all__ = ["PROJECT", "hookimpl"]
