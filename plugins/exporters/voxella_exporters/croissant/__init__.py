"""Exporter ``croissant``: a data set with its description as Croissant JSON-LD."""
