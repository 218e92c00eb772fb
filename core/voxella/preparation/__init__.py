"""Source images to one grid and one scale of intensities."""
