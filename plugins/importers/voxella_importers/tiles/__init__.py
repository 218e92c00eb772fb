"""Tiles that somebody has cut: a folder with a table, or PathLDM's released layout."""
