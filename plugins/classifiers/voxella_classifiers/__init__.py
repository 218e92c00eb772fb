"""Downstream classifiers that come with voxella: `efficientnet`, `cnn`."""
