"""Metrics as a kind of plugins: what they declare, what they are given, how they are found."""
