"""Distances between two sets of features: Fréchet, kernel, and their draws."""
