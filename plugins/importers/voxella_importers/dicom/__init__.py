"""DICOM series to volumes, by rules of our own."""
