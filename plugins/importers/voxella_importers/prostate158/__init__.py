"""The Prostate158 data set."""
