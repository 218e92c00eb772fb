"""Exporter ``nnunet``: a raw data set of nnU-Net, version 2."""
