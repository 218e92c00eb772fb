"""Any data set that one table describes."""
