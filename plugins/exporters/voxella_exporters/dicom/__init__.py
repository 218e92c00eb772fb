"""Exporter ``dicom``: derived MR series, one folder each."""
