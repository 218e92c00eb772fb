"""What a report says of PI-RADS, read off its words."""
