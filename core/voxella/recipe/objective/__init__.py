"""Blocks of a recipe that say what the diffusion model is asked to learn."""
