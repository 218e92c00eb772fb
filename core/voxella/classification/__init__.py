"""Downstream classifiers: which images, how they are fed, how the best epoch is chosen."""
