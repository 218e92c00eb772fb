"""Exporters of data sets: nnU-Net, DICOM, Croissant. ``plugin.py`` is what entry points name."""
