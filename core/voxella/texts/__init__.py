"""What counts as text, as a report and as an id: one set of rules for import, check and stages."""
