"""Importers, each with its exporters and probes."""
