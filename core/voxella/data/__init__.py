"""Data sets: import, prepare, read, hand on."""
