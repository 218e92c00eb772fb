"""Schedules, predictions, losses, samplers, guidance: mathematics without I/O."""
