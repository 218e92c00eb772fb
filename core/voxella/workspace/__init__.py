"""Folders that commands work in: who holds one, and what was left in it."""
