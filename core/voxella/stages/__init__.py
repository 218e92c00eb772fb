"""One module per verb, from import to report."""
