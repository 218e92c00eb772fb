"""Downstream classifiers that come with voxella: `efficientnet`, `resnet`, `cnn`."""
