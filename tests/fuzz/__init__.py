"""Inputs as people, disks and attackers may leave them, and what must become of each."""
