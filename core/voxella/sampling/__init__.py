"""Synthetic data sets from a trained model."""
