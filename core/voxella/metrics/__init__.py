"""Features and statistics."""
