"""Studies: the recipes of a table on the same data with the same seeds, and what they show."""
