"""Voxels and geometry: reading, grids, resampling, intensities, pictures."""
