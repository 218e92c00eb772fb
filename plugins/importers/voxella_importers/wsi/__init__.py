"""Tiles out of whole slides."""
