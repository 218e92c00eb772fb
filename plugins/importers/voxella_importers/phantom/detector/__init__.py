"""The phantom's detector: what a volume shows."""
