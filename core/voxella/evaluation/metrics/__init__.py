"""The built-in metrics of a synthetic data set, each declared where it is measured from."""
