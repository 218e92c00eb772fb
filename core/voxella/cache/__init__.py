"""Cached latents and text features, written once by `voxella encode` and read in place."""
